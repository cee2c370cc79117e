import pytest
import torch

from ssl_bench.lanes import side_by_side

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")

SIZE = 1 << 20


@needs_gpu
def test_results_come_in_order_and_may_be_read_at_once() -> None:
    lanes = [torch.cuda.current_stream(), *(torch.cuda.Stream() for _ in range(3))]
    work = [lambda number=number: torch.full((SIZE,), number, device="cuda") for number in range(9)]
    assert torch.stack(side_by_side(lanes, work)).sum(1).tolist() == [n * SIZE for n in range(9)]


@needs_gpu
@pytest.mark.parametrize("result", [lambda x: x, lambda x: (x, x)], ids=["a tensor", "two"])
def test_other_work_of_a_lane_does_not_overwrite_what_is_still_to_be_read(result) -> None:
    lane, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        here = torch.cuda.current_stream()
        made = side_by_side(
            [here, lane], [lambda: result(torch.ones(SIZE, device="cuda")) for _ in range(2)]
        )[1]
        made = made[0] if isinstance(made, tuple) else made
        place, total = made.data_ptr(), made.sum()
        del made
        with torch.cuda.stream(lane):  # as another group whose lane is the same stream
            lane.wait_stream(here)
            other = torch.zeros(SIZE, device="cuda")
        here.wait_stream(lane)
    assert other.data_ptr() != place
    graph.replay()
    assert total.item() == SIZE
