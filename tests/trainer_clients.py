"""The reward clients of trainers, as their own code sends, retries and reads. Sleeps are the test's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx2

Sleep = Callable[[float], None]


def _post(url: str, body: object, timeout_s: float | None) -> httpx2.Response:
    """On a connection of its own; certificates are not looked up, which takes a client's time."""
    with httpx2.Client(verify=False, timeout=timeout_s) as client:
        return client.post(url, json=body)


def never(seconds: float) -> None:
    raise AssertionError(f"the client would sleep for {seconds} s")


class Openrlhf:
    """`openrlhf/utils/agent.py`: a connection a request, 5 attempts 1 s apart, every status retried."""

    def __init__(self, urls: str, sleep: Sleep = never) -> None:
        self.urls, self.sleep = urls.split(","), sleep

    def reward(self, query: str, prompt: str, label: Any = "") -> dict[str, Any]:
        full = {"query": [query], "prompts": [prompt], "labels": [label]}
        empty: dict[str, Any] = {"query": [], "prompts": [], "labels": []}
        replies = [
            self._post(url, full if index == 0 else empty) for index, url in enumerate(self.urls)
        ]
        first = replies[0]
        rewards, scores = first["rewards"], first.get("scores", first["rewards"])
        assert isinstance(rewards, list)
        assert isinstance(scores, list)
        logs = {name: float(values[0]) for name, values in first.get("extra_logs", {}).items()}
        return {"reward": float(rewards[0]), "score": float(scores[0]), "logs": logs}

    def _post(self, url: str, body: dict[str, Any]) -> dict[str, Any]:
        for attempt in range(5):
            try:
                response = _post(url, body, 180)
                response.raise_for_status()
                return response.json()
            except httpx2.HTTPError:
                if attempt == 4:
                    raise
                self.sleep(1)
        raise AssertionError


class Slime:
    """`slime/rollout/rm_hub/__init__.py`: 10 attempts, growing sleeps; the body is the reward."""

    def __init__(self, url: str, sleep: Sleep = never) -> None:
        self.url, self.sleep = url, sleep

    def reward(self, prompt: object, response: str, label: str | None = None) -> Any:
        payload = {"prompt": prompt, "response": response, "label": label}
        for attempt in range(10):
            try:
                answer = _post(self.url, payload, 120)
                answer.raise_for_status()
                assert answer.headers["content-type"].startswith("application/json")
                return answer.json()
            except httpx2.HTTPError:
                if attempt == 9:
                    raise
                self.sleep(min(2**attempt, 30))
        raise AssertionError


class Verl:
    """`verl/experimental/reward_loop/reward_loop.py`: 16 attempts; a 4xx is final."""

    def __init__(self, url: str, sleep: Sleep = never) -> None:
        self.url, self.sleep = url, sleep

    def vllm(self, text: str, flag: str = "use_activation") -> float:
        body = self._post("/classify", {"model": "/ckpt/rm", "input": text, flag: False})
        return body["data"][-1]["probs"][-1]

    def sglang(self, text: str) -> float:
        body = self._post("/v1/embeddings", {"model": "/ckpt/rm", "input": text})
        return body["data"][-1]["embedding"][-1]

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        for attempt in range(16):
            try:
                response = _post(self.url + path, body, None)
                response.raise_for_status()
                assert response.headers["content-type"].startswith("application/json")
                return response.json()
            except httpx2.HTTPStatusError as error:
                if error.response.status_code < 500 or attempt == 15:
                    raise
            except httpx2.HTTPError:
                if attempt == 15:
                    raise
            self.sleep(min(2**attempt, 30))
        raise AssertionError


def llamafactory(url: str, messages: list[str]) -> list[float]:
    """`src/llamafactory/train/ppo/ppo_utils.py`: no time limit, no retry, no look at the status."""
    response = _post(url, {"model": "model", "messages": messages}, None)
    return response.json()["scores"]
