"""The preparation as a run: settings, worker processes, checkpoint, output files and report."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hf_reason._renamed import renamed

if TYPE_CHECKING:
    from .settings import PrepareConfig

CHUNK_SIZE = 512


@renamed(validation_share="validation_size", test_share="test_size")
def prepare(
    sources: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    output_dir: str | os.PathLike[str],
    config: "PrepareConfig | None" = None,
    *,
    num_proc: int = 1,
    engine: str = "local",
    chunk_size: int = CHUNK_SIZE,
    overwrite: bool = False,
    progress: bool = True,
    **options: Any,
) -> dict[str, Any]:
    """Turn raw traces into a data set for training, with a report.

        prepare("traces.jsonl", "prepared", test_size=0.1, filters=FilterConfig(min_steps=2))

    The same sources and settings give the same files, byte for byte, whatever `num_proc` and `chunk_size` are and
    however often the run was killed: called again, it resumes at the first chunk that is not finished. A finished
    `output_dir` with the same sources and settings is left alone, and its report is returned.

    Args:
        sources: File(s), folder(s) or Hub data set name(s); see `read_traces`.
        output_dir: Folder for the data set; `datasets.load_from_disk` and `load_cot_sft_dataset` read it. The report
            is written beside it, as `report.json`, `report.html` and `report.png`.
        config: The settings that decide the result; all defaults if `None`.
        num_proc: Number of processes. With more than one, call `prepare` under `if __name__ == "__main__":`.
        engine: `"local"`, or `"ray"`: the processes are those of a Ray cluster (the one that RAY_ADDRESS names, or one
            on this machine), whose machines all see `output_dir`. The files are the same.
        chunk_size: Traces in a chunk. A smaller one loses less work when the run is killed and needs less memory.
        overwrite: Remove an earlier result, or an unfinished run with other settings, from `output_dir` first.
        progress: Show a progress bar on stderr.
        **options: Fields of `PrepareConfig`, which replace those of `config`.

    Returns:
        The report, as in `report.json`.

    Raises:
        ValueError: `engine` is unknown, or Ray is not installed.
        DataError: sources that cannot be used, a setting out of range, an `output_dir` with other content, or no
            record left after the filters.
        TypeError: an option that `PrepareConfig` does not have.
    """
    from .pipeline import run
    from .settings import PrepareConfig

    settings = PrepareConfig.of(config, options)
    names = [os.fspath(source) for source in ([sources] if isinstance(sources, str | os.PathLike) else sources)]
    return run(
        names,
        output_dir,
        settings,
        num_proc=num_proc,
        engine=engine,
        chunk_size=chunk_size,
        overwrite=overwrite,
        progress=progress,
    )
