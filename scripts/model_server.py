#!/usr/bin/env python3
"""A local model server for benches and acceptance tests: speaks the OpenAI chat completions and the Anthropic Messages
API, streaming, and says the same few words to everybody. Standard library only.

    model_server.py [PORT]    prints the port that it listens on, then serves until it is stopped
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

WORDS = ["Hello", " from", " a", " local", " model."]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # As every real server does: a small event must not wait until the one before it is acknowledged.
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def send_event(self, data, event=None):
        head = f"event: {event}\n" if event else ""
        payload = f"{head}data: {data if isinstance(data, str) else json.dumps(data)}\n\n".encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(payload), payload))
        self.wfile.flush()

    def do_POST(self):
        length = int(self.headers.get("Content-Length", 0))
        body = json.loads(self.rfile.read(length) or b"{}")
        model = body.get("model", "peer")
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        if self.path.endswith("/messages"):
            self.anthropic(model)
        else:
            self.openai(model)
        self.wfile.write(b"0\r\n\r\n")
        self.wfile.flush()

    def openai(self, model):
        def chunk(choices, **more):
            head = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": model}
            self.send_event(head | {"choices": choices} | more)

        def choice(delta, reason=None):
            return [{"index": 0, "delta": delta, "finish_reason": reason}]

        chunk(choice({"role": "assistant", "content": ""}))
        for word in WORDS:
            chunk(choice({"content": word}))
        chunk(choice({}, "stop"))
        chunk([], usage={"prompt_tokens": 5, "completion_tokens": len(WORDS), "total_tokens": 5 + len(WORDS)})
        self.send_event("[DONE]")

    def anthropic(self, model):
        usage = {"input_tokens": 5, "output_tokens": 0}
        message = {"id": "m1", "type": "message", "role": "assistant", "model": model, "content": [], "usage": usage}
        self.send_event({"type": "message_start", "message": message}, "message_start")
        block = {"type": "text", "text": ""}
        self.send_event({"type": "content_block_start", "index": 0, "content_block": block}, "content_block_start")
        for word in WORDS:
            delta = {"type": "text_delta", "text": word}
            self.send_event({"type": "content_block_delta", "index": 0, "delta": delta}, "content_block_delta")
        self.send_event({"type": "content_block_stop", "index": 0}, "content_block_stop")
        end = {"stop_reason": "end_turn", "stop_sequence": None}
        self.send_event(
            {"type": "message_delta", "delta": end, "usage": {"output_tokens": len(WORDS)}}, "message_delta"
        )
        self.send_event({"type": "message_stop"}, "message_stop")


def main():
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    print(server.server_address[1], flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
