"""Verify that a data set is what its manifest says."""

from pathlib import Path

from scripts.command import run


def verify_data(data: str, out: Path = Path("runs/verify_data")) -> Path:
    """Compare every shard with the manifest, decode every sample, and name whatever is damaged, missing or mixed up.

    python -m scripts.verify_data --data runs/x/labels

    Takes about a second for 5,000 samples. Exits with code 2 where anything is wrong.

    Args:
        data: folder or address (https://..., s3://...) of collected or labelled shards
        out: folder for result.json, which lists what was found
    """
    from datamodules.verification import verify_place  # what decodes frames loads after the arguments proved right

    return verify_place(data, out)


if __name__ == "__main__":
    run(verify_data)
