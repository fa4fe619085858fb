"""A W&B server on this machine, as good or as bad as a test needs it."""

from __future__ import annotations

import gzip
import json
import threading
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "0123456789abcdef0123456789abcdef01234567"


class WandbServer:
    """Answers wandb's requests and keeps the history lines of each run.

    Attributes:
        mood: `good`; `silent` takes requests and never answers; `error` answers 500; `garbage` answers no JSON.
        requests: paths, in the order in which they came.
        history: run id -> lines of its history.
    """

    def __init__(self, mood: str = "good") -> None:
        self.mood = mood
        self.requests: list[str] = []
        self.history: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.closing = threading.Event()
        handler = type("Handler", (_Handler,), {"server_of": self})
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._http.daemon_threads = True
        self._http.handle_error = lambda *_: None  # clients that go away in the middle of a request
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stops answering at all: connections are refused."""
        self.closing.set()
        self._http.shutdown()
        self._http.server_close()

    def answer(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        """Returns what the real server would say, as far as wandb looks at it."""
        project = {"id": "p", "name": variables.get("project") or "probe", "entity": {"id": "e", "name": "me"}}
        if "upsertBucket" in query:
            bucket = {"id": "b", "name": variables["name"], "displayName": "run", "config": "{}", "project": project}
            return {"upsertBucket": {"inserted": True, "bucket": {**bucket, "historyLineCount": 0}}}
        if "RunResumeStatus" in query:
            return {"model": {"id": "m", "name": project["name"], "bucket": self._resume_status(variables["name"])}}
        if "createRunFiles" in query:
            files = [{"name": name, "uploadUrl": f"{self.url}/upload/{name}"} for name in variables["files"]]
            return {"createRunFiles": {"runID": "b", "uploadHeaders": [], "files": files}}
        if "viewer" in query.lower():
            return {"viewer": {"id": "u", "entity": "me", "username": "me", "flags": "{}", "teams": {"edges": []}}}
        return {}

    def _resume_status(self, run_id: str) -> dict[str, Any] | None:
        lines = self.history.get(run_id)
        if not lines:
            return None
        counts = {"historyLineCount": len(lines), "logLineCount": 0, "eventsLineCount": 0}
        tails = {"historyTail": json.dumps([json.dumps(lines[-1])]), "eventsTail": "[]", "summaryMetrics": "{}"}
        return {
            "id": "b",
            "name": run_id,
            "displayName": "run",
            "config": "{}",
            "wandbConfig": '{"t": 1}',
            **counts,
            **tails,
        }


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_of: WandbServer

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:  # noqa: N802
        self._reply({})

    def do_PUT(self) -> None:  # noqa: N802
        self._body()
        self._reply({})

    def do_POST(self) -> None:  # noqa: N802
        body = self._body()
        self.server_of.requests.append(self.path)
        if self.path == "/graphql":
            request = json.loads(body)
            self._reply({"data": self.server_of.answer(request["query"], request.get("variables") or {})})
            return
        if self.path.endswith("/file_stream") and self.server_of.mood == "good":
            sent = json.loads(body).get("files") or {}
            chunk = sent.get("wandb-history.jsonl")
            if chunk:
                lines = self.server_of.history[self.path.split("/")[-2]]
                lines[chunk["offset"] :] = [json.loads(line) for line in chunk["content"]]
        self._reply({})

    def _body(self) -> bytes:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

    def _reply(self, answer: dict[str, Any]) -> None:
        mood = self.server_of.mood
        if mood == "silent":
            self.server_of.closing.wait()
            self.close_connection = True
            return
        body = b"<html>maintenance" if mood == "garbage" else json.dumps(answer).encode()
        self.send_response(500 if mood == "error" else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
