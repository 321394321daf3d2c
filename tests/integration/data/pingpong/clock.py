"""A program that is not a service: it answers requests with the time."""

import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer


class Clock(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(str(time.time()).encode())


if __name__ == "__main__":
    HTTPServer(("127.0.0.1", int(sys.argv[1])), Clock).serve_forever()
