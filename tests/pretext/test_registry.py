import pytest
import torch

from medssl.errors import ConfigError
from medssl.pretext.mixture import PretextMixture, PretextModel
from medssl.pretext.registry import build_tasks, task_names
from medssl.training.batch import collate


def test_a_task_is_found_by_being_in_the_package():
    assert "inpainting" in task_names()
    assert task_names() == sorted(task_names())


def test_tasks_keep_the_users_order_and_settings(make_context):
    names = task_names()[::-1]
    tasks = build_tasks({name: {"weight": 2.5} for name in names}, make_context(crop_size=(24, 24, 24)))
    assert [task.name for task in tasks] == names
    assert {task.settings.weight for task in tasks} == {2.5}


def test_a_misspelt_task_gets_its_nearest_name(make_context):
    with pytest.raises(ConfigError, match=r"tasks\.inpaintin .*did you mean inpainting"):
        build_tasks({"inpaintin": {}}, make_context())


def test_a_far_off_name_gets_the_list(make_context):
    with pytest.raises(ConfigError, match=r"there are .*inpainting"):
        build_tasks({"zzz": {}}, make_context())


def test_a_setting_that_does_not_fit_is_named_with_its_task(make_context):
    with pytest.raises(ConfigError, match=r"tasks\.inpainting.*mask_ratio"):
        build_tasks({"inpainting": {"mask_ratio": 1.5}}, make_context())


@pytest.mark.parametrize("tasks", [{}, {"inpainting": {"weight": 0}}])
def test_something_must_be_trained(make_context, tasks):
    with pytest.raises(ConfigError, match="weight above 0"):
        build_tasks(tasks, make_context())


def test_all_tasks_train_together(make_context, make_blobs, tiny_encoder):
    context = make_context(crop_size=(24, 24, 24), scan_shapes=((64, 64, 64),) * 3)
    mixture = PretextMixture(build_tasks({name: {} for name in task_names()}, context), context.crop_size)
    transform = mixture.make_transform()
    window = make_blobs(mixture.window_size)
    samples = [transform.set_random_state(seed)({"image": window}) for seed in range(2)]
    batch = collate(samples, mixture.batch_keys)
    model = PretextModel(tiny_encoder, mixture)
    loss = mixture.total_loss(mixture.losses(model(batch), batch))
    loss.backward()
    assert torch.isfinite(loss)
    assert all(parameter.grad is not None for parameter in model.parameters())
