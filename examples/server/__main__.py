"""python examples/server exported: serves a folder of exported files."""

import argparse

import uvicorn
from app import Limits, make_app
from exported_model import Model


def _positive(text):
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("a whole number from 1 is needed")
    return number


def main():
    limits = Limits()
    parser = argparse.ArgumentParser(prog="python examples/server")
    parser.add_argument("exported", help="folder that the export wrote")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument(
        "--port", type=int, default=8000, help="0: any free one"
    )
    for name in ("most_images", "most_steps", "most_waiting"):
        default = getattr(limits, name)
        parser.add_argument(f"--{name}", type=_positive, default=default)
    parser.add_argument(
        "--answer_seconds", type=float, default=limits.answer_seconds
    )
    parser.add_argument(
        "--exact",
        action="store_true",
        help="the same bytes whatever is in the batch, at a cost",
    )
    given = parser.parse_args()
    limits = Limits(
        most_images=given.most_images,
        most_steps=given.most_steps,
        most_waiting=given.most_waiting,
        answer_seconds=given.answer_seconds,
    )
    try:
        model = Model(given.exported, given.exact)
    except ValueError as error:
        parser.error(str(error))
    uvicorn.run(
        make_app(model, limits),
        host=given.host,
        port=given.port,
        log_level="info",
        access_log=False,
        # Beyond that it answers 503 before anything is read.
        limit_concurrency=1000,
        timeout_keep_alive=5,
    )


if __name__ == "__main__":
    main()
