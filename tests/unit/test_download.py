import hashlib
import http.server
import threading

import pytest

from mobilesam import DownloadError
from mobilesam.weights import download

CONTENT = bytes(range(256)) * 20_000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT; `/cut` ends after half of it, `/noresume` ignores ranges, `/other` is another file."""

    def do_GET(self):
        self.server.ranges.append(self.headers.get("Range"))
        body = b"other" if self.path == "/other" else CONTENT
        start = 0
        if (asked := self.headers.get("Range")) and self.path != "/noresume":
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            if start >= len(body):
                self.send_error(416)
                return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        end = len(body) // 2 if self.path == "/cut" else len(body)
        self.wfile.write(body[start:end])

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.ranges = []
    server.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def fetch(path, *urls):
    return download(path, urls=urls, sha256=SHA256, progress=False)


def test_a_file_is_fetched_once(server, tmp_path):
    path = tmp_path / "deep" / "mobile_sam.pt"
    assert fetch(path, server.url + "/x").read_bytes() == CONTENT
    fetch(path, server.url + "/x")
    assert len(server.ranges) == 1
    assert [p.name for p in path.parent.iterdir()] == ["mobile_sam.pt"]


@pytest.mark.parametrize(("second", "ranges"), [("/x", True), ("/noresume", False)])
def test_an_interrupted_download_goes_on(server, tmp_path, second, ranges):
    path = tmp_path / "mobile_sam.pt"
    with pytest.raises(DownloadError, match=f"{len(CONTENT) // 2} of {len(CONTENT)} bytes"):
        fetch(path, server.url + "/cut")
    assert not path.exists()
    assert fetch(path, server.url + second).read_bytes() == CONTENT
    assert server.ranges == [None, f"bytes={len(CONTENT) // 2}-"]


def test_a_part_that_is_whole_needs_no_rest(server, tmp_path):
    path = tmp_path / "mobile_sam.pt"
    path.with_name("mobile_sam.pt.part").write_bytes(CONTENT)
    assert fetch(path, server.url + "/x") == path


def test_another_file_is_refused_and_the_next_address_tried(server, tmp_path):
    path = tmp_path / "mobile_sam.pt"
    with pytest.raises(DownloadError, match=f"SHA-256 must be {SHA256}"):
        fetch(path, server.url + "/other")
    assert not list(tmp_path.iterdir())
    assert fetch(path, server.url + "/other", server.url + "/x").exists()


def test_a_file_in_the_way_is_kept(server, tmp_path):
    path = tmp_path / "mobile_sam.pt"
    path.write_bytes(b"mine")
    with pytest.raises(DownloadError, match="Move that file away"):
        fetch(path, server.url + "/x")
    assert path.read_bytes() == b"mine"


def test_offline_says_what_works(tmp_path):
    with pytest.raises(DownloadError, match="bundled weights, which need no download") as raised:
        fetch(tmp_path / "mobile_sam.pt", "http://127.0.0.1:9/x")
    assert isinstance(raised.value, OSError)
