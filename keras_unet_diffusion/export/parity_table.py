"""The parity table as text."""

_HEADER = (
    "max |diff|",
    "mean |diff|",
    "of spread",
    "PSNR dB",
    "stats",
    "MB",
    "ms/call",
    "peak MB",
)


def format_parity_table(rows):
    """Lays the rows of the parity table out as text.

    `PSNR dB` and `stats` are of images that were sampled from the same noise:
    how far they are from those of Keras, and by how much at most the means
    and standard deviations of their channels differ.

    Args:
        rows: list of dicts of `compare`.

    Returns:
        str of several lines.
    """
    lines = [("artifact", "signature", *_HEADER)]
    lines += [(row["artifact"], row["signature"], *_cells(row)) for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if k < 2 else cell.rjust(width)
            for k, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )


def _cells(row):
    psnr, stats = "-", "-"
    if "psnr_db" in row:
        psnr = "equal" if row["psnr_db"] is None else f"{row['psnr_db']:.1f}"
        stats = f"{row['statistics_difference']:.1e}"
    peak = row["peak_bytes"]
    return (
        f"{row['max_difference']:.1e}",
        f"{row['mean_difference']:.1e}",
        f"{row['max_difference_of_spread']:.1e}",
        psnr,
        stats,
        f"{row['size_bytes'] / 1e6:.2f}",
        f"{row['milliseconds_per_call']:.1f}",
        "-" if peak is None else f"{peak / 1e6:.0f}",
    )
