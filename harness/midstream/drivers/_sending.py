"""What reknit is told of an upload, by itself or as a gateway."""

from __future__ import annotations

from midstream.drivers import Job


def part_size(job: Job) -> int:
    """Small objects go in several parts all the same, large ones not in very many."""
    return max(job.part_size, (job.size or 0) // 8) if job.part_size else 8 << 20


def store_settings(job: Job, over_http: str) -> dict[str, str]:
    """Of the store that takes it; `over_http` is the way to upload to an HTTP store."""
    known = {"s3": {"least_part": str(part_size(job))}, "http": {"upload": over_http}}
    return known.get(job.kind, {})
