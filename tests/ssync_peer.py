"""Longhorn's file transfer (ssync), written from its description and sharing nothing with Drover: the sending and the
receiving side. Prints what it did as one line of JSON.

  ssync_peer.py receive HOST PORT FILE
  ssync_peer.py send HOST PORT FILE
"""
import base64
import ctypes
import hashlib
import http.client
import http.server
import json
import os
import socket
import sys
import threading
import urllib.parse

PIECE = 2 * 1024 * 1024
libc = ctypes.CDLL("libc.so.6", use_errno=True)
libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]


def punch(fd, begin, end):
    if end > begin and libc.fallocate(fd, 3, begin, end - begin) != 0:
        raise OSError(ctypes.get_errno(), "fallocate")


def connect(host, port):
    connection = http.client.HTTPConnection(host, int(port))
    connection.connect()
    connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def layout(fd, size):
    """(begin, end, is data) from front to back."""
    at = 0
    while at < size:
        try:
            data = os.lseek(fd, at, os.SEEK_DATA)
        except OSError:
            yield at, size, False
            return
        if data > at:
            yield at, data, False
        at = os.lseek(fd, data, os.SEEK_HOLE)
        yield data, at, True


def all_data(fd, begin, end):
    return os.lseek(fd, begin, os.SEEK_DATA) == begin and os.lseek(fd, begin, os.SEEK_HOLE) >= end


def receive(host, port, path):
    done = threading.Event()
    count = {"holes": 0, "written": 0, "hashed": 0, "direct": None, "checksum": "", "existed": None}
    state = {"fd": -1}

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, *_):
            pass

        def answer(self, value=None, status=200):
            body = b"" if value is None else json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def parts(self):
            url = urllib.parse.urlparse(self.path)
            query = {k: v[0] for k, v in urllib.parse.parse_qs(url.query).items()}
            return url.path, query, int(query.get("begin", 0)), int(query.get("end", 0))

        def do_GET(self):
            path_, query, begin, end = self.parts()
            if path_ == "/v1-ssync/open":
                count["existed"] = os.path.exists(path)
                count["direct"] = query["directIO"]
                state["fd"] = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
                os.ftruncate(state["fd"], end)
                self.answer(count["existed"])
            elif path_ == "/v1-ssync/getChecksum":
                count["hashed"] += 1
                try:
                    covered = all_data(state["fd"], begin, end)
                except OSError:
                    covered = False
                data = os.pread(state["fd"], end - begin, begin)
                self.answer(base64.b64encode(hashlib.sha512(data).digest()).decode() if covered else None)
            else:
                self.answer({"error": path_}, 404)

        def do_POST(self):
            path_, query, begin, end = self.parts()
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if path_ == "/v1-ssync/sendHole":
                count["holes"] += 1
                punch(state["fd"], begin, end)
            elif path_ == "/v1-ssync/writeData":
                assert len(body) == end - begin, (len(body), begin, end)
                count["written"] += len(body)
                os.pwrite(state["fd"], body, begin)
            elif path_ == "/v1-ssync/close":
                count["checksum"] = query.get("checksum", "")
                os.fsync(state["fd"])
                done.set()
            else:
                return self.answer({"error": path_}, 404)
            self.answer()

    server = http.server.ThreadingHTTPServer((host, int(port)), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print("listening", flush=True)
    done.wait(60)
    server.shutdown()
    print(json.dumps(count), flush=True)


def send(host, port, path):
    fd = os.open(path, os.O_RDONLY)
    size = os.fstat(fd).st_size
    count = {"holes": 0, "written": 0, "hashed": 0, "record": 0, "status": 0}
    lock = threading.Lock()

    def call(connection, method, name, body=None):
        connection.request(method, "/v1-ssync/" + name, body=body, headers={"Accept-Encoding": "gzip"})
        response = connection.getresponse()
        text = response.read()
        if response.status != 200:
            raise RuntimeError(f"{name}: {response.status} {text[:200]!r}")
        return text

    first = connect(host, port)
    direct = "false" if path.endswith(".meta") else "true"
    existed = json.loads(call(first, "GET", f"open?begin=0&end={size}&directIO={direct}"))
    try:
        call(first, "GET", "getRecordedMetadata")
    except RuntimeError as error:
        count["record"] = int(str(error).split()[1])
    pieces = iter(list(layout(fd, size)) if direct == "true" else [(0, size, True)])
    errors = []

    def work():
        connection = connect(host, port)
        while True:
            with lock:
                piece = next(pieces, None)
            if piece is None:
                return
            begin, end, data = piece
            if not data:
                call(connection, "POST", f"sendHole?begin={begin}&end={end}")
                with lock:
                    count["holes"] += 1
                continue
            for at in range(begin, end, PIECE):
                until = min(end, at + PIECE)
                content = os.pread(fd, until - at, at)
                if existed:
                    theirs = json.loads(call(connection, "GET", f"getChecksum?begin={at}&end={until}"))
                    with lock:
                        count["hashed"] += 1
                    if theirs == base64.b64encode(hashlib.sha512(content).digest()).decode():
                        continue
                call(connection, "POST", f"writeData?begin={at}&end={until}", content)
                with lock:
                    count["written"] += len(content)

    def guarded():
        try:
            work()
        except Exception as error:  # reported by the main thread
            errors.append(error)

    threads = [threading.Thread(target=guarded) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    checksum = os.environ.get("CHECKSUM", "")
    method = "crc64" if checksum else ""
    call(first, "POST", f"close?checksumMethod={method}&checksum={checksum}")
    print(json.dumps(count), flush=True)


if __name__ == "__main__":
    {"receive": receive, "send": send}[sys.argv[1]](*sys.argv[2:])
