"""What figures were measured on: processor, threads, versions, commit."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from data import ROOT


def environment() -> dict[str, str]:
    """Describe what the figures were measured on."""
    info = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    about = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in info)}
    cpu = about.get("model name") or platform.processor() or "?"
    if "cpu family" in about:  # "AMD EPYC" may be any Zen
        cpu += f" (family {about['cpu family']} model {about['model']})"
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout
    packages = {name: _version(name) for name in ("torch", "timm", "ultralytics", "mobilesam-mirror")}
    threads, python = str(torch.get_num_threads()), platform.python_version()
    return {"processor": cpu, "threads": threads, "python": python, "commit": commit.strip() or "?", **packages}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"
