"""Several people at once: whole processes of calicoctl that change the same resource of one store."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

COMMAND = [sys.executable, "-m", "calico.cli.main"]
TIMEOUT = 120
WRITERS = 6

SET = """\
apiVersion: projectcalico.org/v3
kind: GlobalNetworkSet
metadata: {name: shared}
spec: {nets: [192.0.2.0/24]}
"""


def test_people_who_label_at_once_lose_nothing(tmp_path: Path) -> None:
    """Each label that calicoctl says is set is there in the end, and whoever was too slow was told so."""
    kept = {key: os.environ[key] for key in ("PATH", "LANG", "HOME") if key in os.environ}
    command = [*COMMAND, "--datastore-path", str(tmp_path / "calico.db")]
    (tmp_path / "set.yaml").write_text(SET)
    subprocess.run(
        [*command, "apply", "-f", str(tmp_path / "set.yaml")], env=kept, check=True, timeout=TIMEOUT
    )

    writers = [
        subprocess.Popen(
            [*command, "label", "gns", "shared", f"writer-{number}=here"],
            env=kept,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(WRITERS)
    ]
    said = [writer.communicate(timeout=TIMEOUT) for writer in writers]

    shown = subprocess.run(
        [*command, "get", "gns", "shared", "-o", "json"],
        env=kept,
        check=True,
        capture_output=True,
        timeout=TIMEOUT,
    )
    there = json.loads(shown.stdout)["metadata"].get("labels", {})
    for number, (writer, (stdout, stderr)) in enumerate(zip(writers, said, strict=True)):
        assert (writer.returncode == 0) == (f"writer-{number}" in there)
        assert (
            "Successfully set label" if writer.returncode == 0 else "others keep changing it"
        ) in stdout + stderr
    assert there
