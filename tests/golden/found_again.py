"""Checks that what REVISION made is found again: `python -m tests.golden.found_again REVISION [--keep FOLDER]`.

The code at REVISION makes tables, classifiers, searches, comparisons and trunks of a few small photographs and of
digits. Then the code of the checkout that this file is in gets the same commands, on a copy. It fails, with a line for
each trouble, unless all is found: nothing under OUT is new, written again or gone, but for what closes a table, which
0.1.0 wrote without checksums; what is said tells that it was reused, and the paths and predictions that are printed
are the same. Only the command line is used, in its spelling of before modules were renamed, so that it works on either
side of that.

FOLDER keeps what REVISION made, so that the next run only asks; nothing that is asked changes it.

    <folder>/revision   the commit whose work this is
    <folder>/inputs/    photographs, their manifest, weights
    <folder>/out/       what was made
    <folder>/said/      a file for each command that is done: the command, and what it printed and remarked
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice, zip_longest
from pathlib import Path

import safetensors.torch
import torch
from torchvision.models import squeezenet1_1

from tests.conftest import COLOURS, write_images

HERE = Path(__file__).resolve().parents[2]

CLOSING = re.compile(r"features/[^/]+/(manifest\.json|errors\.parquet)")
"""What closes a table, and is written anew where 0.1.0 wrote it."""

PROGRAM = "from pipeline.cli import main; main()"

SQUEEZENET = "--backbone squeezenet1_1 --image-size 32"
RANDOM = f"{SQUEEZENET} --weights random"
LOADED = f"{SQUEEZENET} --weights inputs/weights.safetensors"
PHOTOS = "--dataset inputs/photos"
SMALL = f"{PHOTOS} {RANDOM}"
DEPTHS = f"{SMALL} --node depths"
RETRAINED = f"{PHOTOS} {LOADED} --epochs 2"

COMMANDS = {
    "features": f"features {SMALL}",
    "features-depths": f"features {DEPTHS}",
    "features-two-nodes": f"features {SMALL} --node features.7,features.4 --pool max",
    "features-safetensors": f"features {PHOTOS} {LOADED}",
    "features-pth": f"features {PHOTOS} {SQUEEZENET} --weights inputs/weights.pth --pool avg1x1",
    "features-pooled": f"features {SMALL} --pool avg2x2",
    "features-bf16": f"features {SMALL} --precision bf16",
    "features-limited": f"features {SMALL} --train-limit 60 --seed 7 --max-bad 0.5 --retry-bad",
    "features-manifest": f"features --dataset inputs/photos.csv {RANDOM}",
    "features-resnet": f"features {PHOTOS} --backbone resnet18 --weights random --image-size 32 --node layer2",
    "features-convnext": f"features {PHOTOS} --backbone convnext_tiny --weights random --image-size 32",
    "features-timm": f"features {PHOTOS} --backbone timm:resnet10t --weights random --image-size 32",
    "xgb": f"xgb {SMALL}",
    "xgb-file": f"xgb {PHOTOS} {LOADED}",
    "xgb-settings": f"xgb {SMALL} --rounds 30 --columns 128 --max-depth 3 --max-bin 16 --learning-rate 0.3",
    "xgb-select": f"xgb {DEPTHS} --select-node",
    "xgb-tuned": f"xgb {SMALL} --tune 2 --rounds 30",
    "compare": f"compare {SMALL} --heads xgb,linear,mlp,hybrid,knn",
    "compare-usual": f"compare {PHOTOS} {LOADED}",
    "compare-depths": f"compare {DEPTHS} --heads xgb,linear",
    "compare-select": f"compare {DEPTHS} --select-node --heads xgb,linear",
    "compare-tuned": f"compare {SMALL} --tune 3 --heads xgb,linear",
    "compare-tuned-hybrid": f"compare {SMALL} --tune 1 --heads hybrid,knn",
    "compare-finetune": f"compare {PHOTOS} {LOADED} --heads linear,finetune --finetune.epochs 1",
    "compare-lp-ft": f"compare {PHOTOS} {LOADED} --heads xgb,linear,finetune --finetune.regime lp-ft "
    "--finetune.epochs 2 --finetune.label-smoothing 0.1 --finetune.least-area 0.8 --finetune.mirrored 0",
    "finetune": f"finetune {RETRAINED}",
    "finetune-extraction": f"finetune {RETRAINED} --regime feature-extraction --hidden 16",
    "finetune-whole": f"finetune {RETRAINED} --regime feature-extraction --least-area 1 --most-stretch 0 "
    "--most-degrees 0 --mirrored 0",
    "finetune-lp-ft": f"finetune {RETRAINED} --regime lp-ft",
    "finetune-scratch": f"finetune {RETRAINED} --regime scratch",
    "finetune-two-phase": f"finetune {RETRAINED} --regime two-phase --optimizer adam --schedule step",
    "finetune-freeze": f"finetune {RETRAINED} --regime freeze:2 --class-weights --patience 1 --batch-images 16",
    "finetune-digits": f"finetune --dataset digits --train-limit 100 {LOADED} --epochs 1",
    "pretrain": f"pretrain {PHOTOS} --backbone resnet18 --image-size 32 --epochs 1",
    "pretrain-taught": f"pretrain {PHOTOS} --backbone squeezenet1_1 --image-size 64 --epochs 1 --least-area 0.6 "
    "--teacher inputs/weights.safetensors",
    "features-digits": "features",
    "compare-digits": "compare --dataset digits --weights bundled --heads xgb,linear",
    "predict-xgb": "predict {xgb-file:xgb} inputs/photos/red --csv",
    "predict-select": "predict {xgb-select:xgb} inputs/photos/blue --json",
    "predict-linear": "predict {compare:linear} inputs/photos --csv",
    "predict-mlp": "predict {compare:mlp} inputs/photos --csv",
    "predict-hybrid": "predict {compare:hybrid} inputs/photos --csv",
    "predict-knn": "predict {compare:knn} inputs/photos --csv",
    "predict-lp-ft": "predict {finetune-lp-ft:finetune} inputs/photos --csv",
    "predict-scratch": "predict {finetune-scratch:finetune} inputs/photos/green/007.png",
}
"""What is made and then asked for, in this order; {NAME:HEAD} is the file of a classifier that command NAME made."""


@dataclass(frozen=True, kw_only=True)
class Said:
    """What a command answered: its exit code, its results, and what it remarked."""

    code: int
    out: str
    err: str


def main() -> None:
    """Make what is not made yet, ask for it, and leave with 1 where something was not found."""
    parser = argparse.ArgumentParser(prog="python -m tests.golden.found_again", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("revision", help="the commit that makes the results")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="where what it makes is kept, and found next time")
    parser.add_argument("--only", nargs="+", choices=COMMANDS, metavar="NAME", help="the commands to ask, else all")
    asked = parser.parse_args()
    names = asked.only or list(COMMANDS)
    with tempfile.TemporaryDirectory(prefix="found-again-") as scratch:
        kept = asked.keep.resolve() if asked.keep else Path(scratch, "kept")
        make(asked.revision, kept)
        copy = workplace(kept, Path(scratch, "copy"))
        found = [trouble for name in names for trouble in ask(name, kept, copy)]
    for trouble in found:
        say(trouble)
    say(f"{len(names)} commands, {len(found)} troubles")
    sys.exit(1 if found else 0)


def make(revision: str, kept: Path) -> None:
    """Run the commands that are not done yet in `kept` with the code at `revision`."""
    commit = git("rev-parse", "--verify", f"{revision}^{{commit}}")
    write_inputs(kept / "inputs")
    mark = kept / "revision"
    if mark.exists() and mark.read_text() != commit:
        sys.exit(f"{kept} holds the work of {mark.read_text()}, not of {commit}: give another folder")
    mark.write_text(commit)
    undone = [name for name in COMMANDS if recorded(kept, name) is None]
    if not undone:
        return
    with checked_out(commit) as code:
        for name in undone:
            say(f"{name}: made with {revision}")
            arguments = arguments_of(name, kept)
            said = run(arguments, code, kept)
            if said.code:
                sys.exit(f"{name} ({shlex.join(arguments)}) failed with {revision}:\n{said.err}")
            record(kept, name, said)


def ask(name: str, kept: Path, copy: Path) -> Iterator[str]:
    """What is not as it should be when this checkout is asked, in `copy`, for what `name` made in `kept`."""
    say(f"{name}: asked for")
    before = written(copy / "out")
    said = run(arguments_of(name, kept), HERE, copy)
    troubles = list(differences(before, written(copy / "out")))
    if said.code:
        troubles.append(f"failed with exit code {said.code}, {said.err.strip().splitlines()[-1]}")
    else:
        troubles += unfound(said.err, made_something=not name.startswith("predict"))
        troubles += misprinted(recorded(kept, name), said)
    yield from (f"{name}: {trouble}" for trouble in troubles)


def differences(before: Mapping[str, int], after: Mapping[str, int]) -> Iterator[str]:
    """What was made, written again or removed between two states of a folder."""
    yield from (f"made {path}" for path in sorted(after.keys() - before.keys()))
    yield from (f"removed {path}" for path in sorted(before.keys() - after.keys()))
    again = (path for path in sorted(before.keys() & after.keys()) if before[path] != after[path])
    yield from (f"wrote {path} again" for path in again if not CLOSING.fullmatch(path))


def unfound(remarks: str, *, made_something: bool) -> Iterator[str]:
    """The remarks of something that was done and not reused, or that there is none of anything reused."""
    done = [line for line in remarks.splitlines() if re.match(r"[\w-]+: ", line)]
    yield from (f"said {line!r} and not that it was reused" for line in done if "reused" not in line)
    if made_something and not any("reused" in line for line in done):
        yield f"said nothing of reuse: {remarks.strip()!r}"


def misprinted(before: Said | None, now: Said) -> Iterator[str]:
    """The first line of the results that is another, of those that name a file: paths, and images' predictions."""
    wanted, came = (re.findall(".*(?:out/|inputs/).*", said.out) for said in (before or now, now))
    pairs = zip_longest(wanted, came, fillvalue="")
    yield from islice((f"printed {second!r}, before {first!r}" for first, second in pairs if first != second), 1)


def written(folder: Path) -> dict[str, int]:
    """Every file below `folder` with the time when it was written, in nanoseconds; every folder with 0."""
    return {
        path.relative_to(folder).as_posix(): 0 if path.is_dir() else path.stat().st_mtime_ns
        for path in folder.rglob("*")
    }


def workplace(kept: Path, copy: Path) -> Path:
    """A copy of what was made, where it may be changed."""
    shutil.copytree(kept / "out", copy / "out")
    (copy / "inputs").symlink_to(kept / "inputs")
    return copy


def arguments_of(name: str, kept: Path) -> list[str]:
    """What the command line gets; paths are relative to the folder that it runs in."""
    text = re.sub(r"{([\w-]+):(\w+)}", lambda match: classifier(kept, match[1], match[2]), COMMANDS[name])
    rest = [] if name.startswith("predict") else ["--out", "out"]
    return [*shlex.split(text), "--device", "cpu", *rest]


def classifier(kept: Path, name: str, head: str) -> str:
    """The file of a head that the command `name` has made in `kept`: as it printed, or as its comparison has it."""
    said = recorded(kept, name)
    path = Path(said.out.split()[-1] if said and said.out else f"absent-{name}-{head}")
    if path.name != "report.html":
        return str(path)
    return str(json.loads((kept / path).with_name("metrics.json").read_text())["heads"][head]["file"])


def run(arguments: list[str], code: Path, folder: Path) -> Said:
    """Run the command line of a checkout in `folder`; weights that this machine has downloaded are out of its sight."""
    settings = {"PYTHONPATH": str(code), "TORCH_HOME": str(folder / "none"), "OMP_WAIT_POLICY": "passive"}
    program = [sys.executable, "-c", PROGRAM, *arguments]
    done = subprocess.run(
        program, cwd=folder, env={**os.environ, **settings}, capture_output=True, text=True, check=False
    )
    return Said(code=done.returncode, out=done.stdout, err=done.stderr)


def recorded(kept: Path, name: str) -> Said | None:
    """What the command said when it was done in `kept`; None where it was not, or is another now."""
    try:
        content = json.loads((kept / "said" / f"{name}.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return Said(code=0, out=content["out"], err=content["err"]) if content["command"] == COMMANDS[name] else None


def record(kept: Path, name: str, said: Said) -> None:
    """Note that the command is done in `kept`."""
    (kept / "said").mkdir(exist_ok=True)
    text = json.dumps({"command": COMMANDS[name], "out": said.out, "err": said.err}, indent=2, ensure_ascii=False)
    (kept / "said" / f"{name}.json").write_text(text + "\n", encoding="utf-8")


def write_inputs(folder: Path) -> None:
    """Write photographs, a manifest of them and weights into `folder`, unless they are there."""
    if folder.exists():
        return
    fresh = folder.with_name("inputs-unfinished")
    shutil.rmtree(fresh, ignore_errors=True)
    rows = ["path,label,split"]
    for colour in COLOURS:
        write_images(fresh / "photos" / colour, colour, 40)
        for number, path in enumerate(sorted((fresh / "photos" / colour).iterdir())):
            split = ("test", "validation", "train")[min(number % 5, 2)]
            rows.append(f"{path.relative_to(fresh)},{colour},{split}")
    (fresh / "photos.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    torch.manual_seed(1)
    weights = squeezenet1_1(weights=None).state_dict()
    safetensors.torch.save_file(weights, fresh / "weights.safetensors")
    torch.save(weights, fresh / "weights.pth")
    fresh.rename(folder)


@contextmanager
def checked_out(commit: str) -> Iterator[Path]:
    """The files of a commit, in a folder that is removed at the end."""
    with tempfile.TemporaryDirectory(prefix="found-again-code-") as scratch:
        folder = Path(scratch, "code")
        git("worktree", "add", "--quiet", "--detach", str(folder), commit)
        try:
            yield folder
        finally:
            git("worktree", "remove", "--force", str(folder))


def git(*arguments: str) -> str:
    """What git answers in this checkout; raises CalledProcessError where it fails."""
    done = subprocess.run(["git", *arguments], cwd=HERE, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.strip()


def say(line: str) -> None:
    """Print a line at once, so that one sees how far it is."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
