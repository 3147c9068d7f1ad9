"""Behind proxies: who asks, over what, and by which name, as the proxies before web tell it."""

from typing import TYPE_CHECKING

from flask import Flask, request
from flask.sessions import SecureCookieSessionInterface
from werkzeug.middleware.proxy_fix import ProxyFix

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication


class Cookies(SecureCookieSessionInterface):
    """Session cookies: what was set over HTTPS is sent over HTTPS alone."""

    def get_cookie_secure(self, app: Flask) -> bool:
        """Tell whether a browser must keep the cookie from plain HTTP."""
        return super().get_cookie_secure(app) or request.is_secure


def behind(proxies: int, app: "WSGIApplication") -> "WSGIApplication":
    """Return an application that believes so many proxies, counted from its side.

    What a client wrote into those headers itself stands further left and is not read. With none,
    the headers mean nothing, whoever sends them; gunicorn, which believes its own host's, is told
    the same where it is started.
    """
    if not proxies:
        return app
    return ProxyFix(app, x_for=proxies, x_proto=proxies, x_host=proxies)
