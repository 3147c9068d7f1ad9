"""The URLs and addresses a client may make the farm call, and the many it may not."""

import ipaddress

import pytest

from orchestrator.errors import BadRequest
from orchestrator.settings import networks
from orchestrator.webhooks.addresses import Rules, allowed, is_public, parse

RULES = Rules()

EVIL_URLS = """
http://hooks.example.com/
ftp://hooks.example.com/
file:///etc/passwd
gopher://hooks.example.com/_x
data:text/plain,x
javascript:alert(1)
//hooks.example.com/
hooks.example.com
https:/hooks.example.com/
https://
https:///path
https://localhost/
https://LOCALHOST/
https://localhost./
https://app.localhost/
https://metadata.google.internal/
https://printer.local/
https://intranet/
https://redis/
https://db.corp/
https://1.0.0.127.in-addr.arpa/
https://127.0.0.1/
https://127.0.0.1:443/
https://127.1/
https://127.0.1/
https://127.255.255.254/
https://2130706433/
https://0x7f000001/
https://0x7f.0.0.1/
https://0x7f.1/
https://017700000001/
https://0177.0.0.1/
https://0177.0.0.01/
https://127.0.0.0x1/
https://127.0.0.1./
https://0/
https://0.0.0.0/
https://0x/
https://a.0x1/
https://1.2.3.4.5/
https://10.0.0.1/
https://10.255.255.255/
https://172.16.0.1/
https://172.31.255.255/
https://192.168.1.1/
https://169.254.169.254/latest/meta-data/
https://0xa9fea9fe/
https://2852039166/
https://0251.0376.0251.0376/
https://168.63.129.16/
https://100.64.0.1/
https://100.100.100.200/
https://192.0.0.192/
https://192.0.2.1/
https://198.18.0.1/
https://198.51.100.1/
https://203.0.113.1/
https://192.88.99.1/
https://224.0.0.1/
https://239.255.255.250/
https://240.0.0.1/
https://255.255.255.255/
https://[::1]/
https://[::]/
https://[0:0:0:0:0:0:0:1]/
https://[::ffff:127.0.0.1]/
https://[::ffff:7f00:1]/
https://[::ffff:8.8.8.8]/
https://[::127.0.0.1]/
https://[::ffff:0:127.0.0.1]/
https://[64:ff9b::7f00:1]/
https://[64:ff9b::8.8.8.8]/
https://[64:ff9b:1::a9fe:a9fe]/
https://[2002:7f00:1::]/
https://[2001:0:53aa:64c:0:0:80ff:fffe]/
https://[2606:4700::5efe:7f00:1]/
https://[2606:4700::200:5efe:a00:1]/
https://[fe80::1]/
https://[fe80::1%25eth0]/
https://[2606:4700::1%25eth0]/
https://[fec0::1]/
https://[fc00::1]/
https://[fd00:ec2::254]/
https://[ff02::1]/
https://[100::1]/
https://[2001:db8::1]/
https://[3fff::1]/
https://[5f00::1]/
https://[4000::1]/
https://[::1/
https://[127.0.0.1]/
https://good.example@127.0.0.1/
https://good.example:pw@hooks.example.com/
https://127.0.0.1@hooks.example.com/
https://hooks.example.com#@127.0.0.1/
https://hooks.example.com\\\\@127.0.0.1/
https:\\\\127.0.0.1\\\\
https://hooks.example.com:22/
https://hooks.example.com:25/
https://hooks.example.com:0/
https://hooks.example.com:65536/
https://hooks.example.com:-1/
https://hooks.example.com:4a/
https://hooks..example.com/
https://.example.com/
https://-a.example.com/
https://a%00.example.com/
https://127.0.0.1%2f.example.com/
https://127%2e0%2e0%2e1/
https://hooks.example.com/a b
https://hooks.example.com/{x}
https://１２７.0.0.1/
https://127。0。0。1/
https://①②⑦.0.0.1/
https://ⓛocalhost/
https://exämple.com/
https://[::ffff:a9fe:a9fe]/
https://[0:0:0:0:0:ffff:169.254.169.254]/
https://[64:ff9b::a9fe:a9fe]/
https://[2002:a9fe:a9fe::]/
https://[fe80::a9fe:a9fe%25eth0]/
https://[::ffff:0x7f.1]/
https://[::%31]/
https://[fe80::1%lo]/
https://metadata/
https://metadata.google.internal./
https://instance-data/latest/
https://kubernetes.default.svc.cluster.local/
https://EXAMPLE.LOCAL/
https://localhost:8443/
https://127.0.0.1.:8443/
https://127.0.0.1:443@hooks.example.com/
https://hooks.example.com%40127.0.0.1/
https://0300.0250.1.1/
https://3232235777/
https://0xc0.0xa8.0x1.0x1/
https://192.168.257/
https://01.01.01.01/
https://0.1/
https://8.8.8.8%00.example.com/
https://①⑥⑨.②⑤④.①⑥⑨.②⑤④/
https://xn--/
https://-/
https://a.b.c.d.1/
https://user@/
https://:443/
https://?x
https://#x
""".strip().splitlines()

ODD_URLS = [
    "",
    " https://hooks.example.com/",
    "https://hooks.example.com/\r\nHost: 127.0.0.1",
    "https://hooks.example.com\t/",
    "https://hooks.example.com/\x00",
    "ht\ntps://hooks.example.com/",
    "https://" + "a" * 64 + ".com/",
    "https://" + "a." * 200 + "com/",
    "https://hooks.example.com/" + "a" * 3000,
]


def test_the_corpus_is_large() -> None:
    """More than a hundred ways to name an address inside are tried."""
    assert len(set(EVIL_URLS)) >= 140


@pytest.mark.parametrize("url", EVIL_URLS + ODD_URLS)
def test_an_evil_url_is_refused(url: str) -> None:
    """No encoding, form or scheme gets the farm to call its own network."""
    with pytest.raises(BadRequest) as refused:
        parse(url, RULES)
    assert refused.value.advice


@pytest.mark.parametrize(
    ("url", "host", "port", "target"),
    [
        ("https://hooks.example.com", "hooks.example.com", 443, "/"),
        ("https://Hooks.Example.COM./a?b=c", "hooks.example.com", 443, "/a?b=c"),
        ("https://8.8.8.8:8443/x", "8.8.8.8", 8443, "/x"),
        ("https://[2606:4700::1111]/", "2606:4700::1111", 443, "/"),
        ("https://xn--exmple-cua.com/", "xn--exmple-cua.com", 443, "/"),
    ],
)
def test_a_plain_public_url_has_one_reading(url: str, host: str, port: int, target: str) -> None:
    """Names and public addresses pass, lower case and with their default port."""
    found = parse(url, RULES)
    assert (found.host, found.port, found.target) == (host, port, target)


def test_the_operator_may_allow_http_and_a_network() -> None:
    """http and private addresses are allowed by setting, and only those that are named."""
    rules = Rules(http=True, networks=networks("127.0.0.0/8, 10.1.0.0/16"))
    assert parse("http://127.0.0.1:8000/x", rules).port == 8000
    assert parse("http://10.1.2.3/", rules).host == "10.1.2.3"
    for url in ("http://10.2.0.1/", "http://169.254.169.254/", "http://[::1]/"):
        with pytest.raises(BadRequest):
            parse(url, rules)
    with pytest.raises(ValueError):
        networks("everything")


@pytest.mark.parametrize("text", ["8.8.8.8", "1.1.1.1", "100.128.0.1", "2606:4700::1", "2a00::1"])
def test_public_addresses_are_public(text: str) -> None:
    """Unicast addresses that IANA gave out are public."""
    assert is_public(ipaddress.ip_address(text))
    assert allowed(ipaddress.ip_address(text), RULES)
