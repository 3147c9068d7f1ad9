"""The pages people see: sign-in, the studio (form, quote, videos), and a page for each job.

Thin views: what was typed becomes a brief in `forms`, what the farm says becomes what a page
shows in `views`; SQL runs on a native thread. Every page works without JavaScript.
"""

from web.pages import account, job, kept, live, sharing, signing, statistics, studio, topping
from web.pages.blueprint import bp

__all__ = [
    "account", "bp", "job", "kept", "live", "sharing", "signing", "statistics", "studio", "topping",
]  # fmt: skip
