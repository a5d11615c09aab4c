"""A trace of some batches."""

import pytest
from scalar_events import counting_model, fit

from keras_unet_diffusion.training.profiling import ProfileBatches


def steps_in(folder):
    """Numbers of the steps in a trace, by TensorFlow's description of it."""
    xplane_pb2 = pytest.importorskip(
        "tensorflow.tsl.profiler.protobuf.xplane_pb2"
    )
    (path,) = folder.rglob("*.xplane.pb")
    space = xplane_pb2.XSpace.FromString(path.read_bytes())
    found = set()
    for plane in space.planes:
        names = {k: v.name for k, v in plane.stat_metadata.items()}
        for line in plane.lines:
            for event in line.events:
                name = plane.event_metadata[event.metadata_id].name
                if name == "train":
                    found |= {
                        stat.int64_value
                        for stat in event.stats
                        if names[stat.metadata_id] == "step_num"
                    }
    return found


def test_the_batches_asked_for_are_in_the_trace_and_no_others(tmp_path):
    # Three steps in an epoch.
    callback = ProfileBatches(tmp_path, first=2, last=4)
    fit(counting_model(), [callback], epochs=3)
    assert steps_in(tmp_path / "train" / "plugins" / "profile") == {2, 3, 4}


def test_a_profile_beyond_the_end_is_written_at_the_end(tmp_path):
    fit(counting_model(), [ProfileBatches(tmp_path, 3, 99)], epochs=1)
    assert steps_in(tmp_path / "train") == {3}


@pytest.mark.parametrize("first, last", [(0, 3), (5, 4)])
def test_batches_that_cannot_be_are_refused(first, last):
    with pytest.raises(ValueError, match=f"first={first}, last={last}"):
        ProfileBatches("logs", first, last)
