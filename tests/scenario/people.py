"""The phones and pages of a scenario: what people see and press, over HTTP, as they would."""

import re
from typing import Any

import httpx


class Phone:
    """A person's phone: the messages that the WeChat simulator delivered, and its browser inside WeChat."""

    def __init__(self, wechat_url: str, openid: str) -> None:
        self.openid = openid
        self._wechat_url = wechat_url
        inside_wechat = {"User-Agent": "Mozilla/5.0 (Linux; Android 12) MicroMessenger/8.0.49"}
        self._browser = httpx.Client(timeout=10, trust_env=False, headers=inside_wechat)

    def close(self) -> None:
        self._browser.close()

    @property
    def messages(self) -> list[dict[str, Any]]:
        answer = httpx.get(f"{self._wechat_url}/sim/log", params={"openid": self.openid}, timeout=10, trust_env=False)
        found: list[dict[str, Any]] = answer.json()["messages"]
        return found

    def alarms(self, about: str = "") -> list[dict[str, Any]]:
        """Alarm messages, first of each tier and repeats alike, whose text names `about`."""
        return [one for one in self.messages if one["template"] == "alarm" and about in one["data"]["thing2"]["value"]]

    def recoveries(self) -> list[dict[str, Any]]:
        return [one for one in self.messages if one["template"] == "recovery"]

    def open(self, url: str) -> httpx.Response:
        """Open a link as WeChat's browser does: through its OAuth page, as the owner of this phone."""
        answer = self._browser.get(url)
        for _ in range(6):
            if not answer.is_redirect:
                return answer
            onward = answer.headers["location"]
            if "/connect/oauth2/authorize" in onward:
                onward = onward.replace("#wechat_redirect", "") + f"&as={self.openid}"
            answer = self._browser.get(str(answer.url.join(onward)))
        raise AssertionError(f"redirected for ever from {url}")

    def press(self, page: httpx.Response, ends: str, /, **written: str) -> httpx.Response:
        """Submit the page's form whose action ends so, with its hidden fields and what is `written` in it.

        Follows the redirect.
        """
        for form in re.findall(r"<form[^>]*>.*?</form>", page.text, re.DOTALL):
            where = re.search(r'action="([^"]*)"', form)
            if where and where[1].split("?")[0].endswith(ends):
                hidden = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', form))
                answer = self._browser.post(str(page.url.join(where[1])), data={**hidden, **written})
                return self.open(str(answer.url.join(answer.headers["location"]))) if answer.is_redirect else answer
        raise AssertionError(f"no form for {ends} on {page.url}:\n{page.text[:2000]}")
