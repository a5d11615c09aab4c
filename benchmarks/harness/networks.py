"""What all contestants must agree on, found out beside them."""

from harness.contest import Failed, Worker


def network_facts(preset, overrides, log_dir):
    """Operations, weights and diffusers' description of a network.

    Args:
        preset: str, of `UNet`.
        overrides: dict, arguments of the network other than the preset's.
        log_dir: folder for what the process prints.

    Returns:
        dict, see `contestants.network_facts`.

    Raises:
        Failed: the process ended, see its log.
    """
    settings = {"preset": preset, "overrides": overrides}
    # The processor will do, and leaves the card's memory alone.
    environment = {"CUDA_VISIBLE_DEVICES": "", "KERAS_BACKEND": "tensorflow"}
    worker = Worker("network", "network_facts", settings, environment, log_dir)
    worker.close()
    return worker.facts


def ceiling(size, dtype, log_dir):
    """Facts of a large matrix product on the device; None if it has none.

    Args:
        size: int, rows and columns; 0 for no measurement.
        dtype: "bfloat16", "float16" or "float32".
        log_dir: folder for what the process prints.

    Returns:
        dict, see `contestants.matrix_ceiling`; or None.
    """
    if not size:
        return None
    settings = {"size": size, "dtype": dtype, "repeats": 5}
    try:
        worker = Worker("ceiling", "matrix_ceiling", settings, {}, log_dir)
    except Failed as failure:
        print(f"No ceiling was measured: {failure}")
        return None
    worker.close()
    return worker.facts
