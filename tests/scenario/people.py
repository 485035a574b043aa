"""People of a scenario: their phones, and the pages that they open and submit over HTTP."""

import re
from typing import Any

import httpx


class Phone:
    """Phone of a person: the messages that the WeChat simulator delivered, and WeChat's browser."""

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
        messages: list[dict[str, Any]] = answer.json()["messages"]
        return messages

    def alarms(self, about: str = "") -> list[dict[str, Any]]:
        """Return the alarm messages, repeats included, whose text names `about`."""
        return [
            message
            for message in self.messages
            if message["template"] == "alarm" and about in message["data"]["thing2"]["value"]
        ]

    def recoveries(self) -> list[dict[str, Any]]:
        return [message for message in self.messages if message["template"] == "recovery"]

    def open(self, url: str) -> httpx.Response:
        """Open a link as WeChat's browser does: through the OAuth page, as the owner of this phone."""
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
        """Submit the form of a page whose action ends with `ends`, and follow the redirect.

        Its hidden fields are sent with the fields `written`.
        """
        for form in re.findall(r"<form[^>]*>.*?</form>", page.text, re.DOTALL):
            action = re.search(r'action="([^"]*)"', form)
            if action and action[1].split("?")[0].endswith(ends):
                hidden = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', form))
                answer = self._browser.post(str(page.url.join(action[1])), data={**hidden, **written})
                return self.open(str(answer.url.join(answer.headers["location"]))) if answer.is_redirect else answer
        raise AssertionError(f"no form for {ends} on {page.url}:\n{page.text[:2000]}")
