import base64
import gzip
import html
import re

import pytest

from analysis.__main__ import main
from analysis.figures import FIGURES
from analysis.tables import FILES

LINK = re.compile(r'<a download="([^"]+)" href="data:[a-z/.+-]+;base64,([^"]*)">[^<]*</a></dt>(.*)')


def test_the_report_holds_the_tables_as_files(small_folder, tmp_path, repository) -> None:
    for name in FIGURES:
        (tmp_path / f"{name}.png").write_bytes(b"drawn elsewhere")
    pages = [tmp_path / "one.html", tmp_path / "two.html"]
    for page in pages:
        command = ["report", "--tables", str(small_folder), "--figures", str(tmp_path)]
        with pytest.raises(SystemExit) as end:
            main([*command, "--out", str(page)])
        assert end.value.code == 0
    assert pages[0].read_bytes() == pages[1].read_bytes()
    found = {name: (content, rest) for name, content, rest in LINK.findall(pages[0].read_text())}
    there = {file for file in FILES.values() if (small_folder / file).exists()}
    assert "results.csv" in there
    assert {name.removesuffix(".gz") for name in found} == there
    for name, (content, rest) in found.items():
        held = base64.b64decode(html.unescape(content))
        original = small_folder / name.removesuffix(".gz")
        assert (gzip.decompress(held) if name.endswith(".gz") else held) == original.read_bytes()
        described = repository / "workflow" / "report" / f"{original.stem}.rst"
        if described.exists():
            first = described.read_text().replace("``", "").split()[:6]
            assert " ".join(first) in html.unescape(rest)
        else:
            assert original.stem == "scores"
            assert "test utterance" in rest
