"""Denoisers of diffusers: read as they are, and their schedulers as an independent check of our noise, conversions and samplers."""

from __future__ import annotations

import json

import pytest
import torch

pytest.importorskip("diffusers")

import diffusers as library

import tutelage
from tutelage import Fit, Model, RunOptions
from tutelage.cli.main import main
from tutelage.data import Data, Table
from tutelage.diffusion import Denoiser, NoiseSchedule, PipelineNet, Prediction, ancestral, cosine, ddim, diffusers, linear, read
from tutelage.errors import BadInput, MissingFile

T = 20
SHAPE = (1, 4, 4)
OURS = {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}


def net(classes=None, channels=1, seed=0, **more):
    torch.manual_seed(seed)
    sizes = {"sample_size": 8, "in_channels": channels, "out_channels": channels, "block_out_channels": (4, 8), "layers_per_block": 1}
    blocks = {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2, "norm_num_groups": 2}
    return library.UNet2DModel(**{**sizes, **blocks, "num_class_embeds": classes, **more})


def saved(folder, unet=None, **scheduler):
    library.DDPMPipeline(unet or net(), library.DDPMScheduler(**scheduler)).save_pretrained(folder)
    return str(folder)


class Known:
    """A denoiser that says some function of what it sees, in each of the ways that schedulers know."""

    def __init__(self, kind: str, schedule: NoiseSchedule) -> None:
        self.kind, self.schedule = kind, schedule

    def said(self, x_t, t):
        return 0.3 * x_t + 0.1 * torch.sin(torch.as_tensor(float(t)) + x_t)

    def __call__(self, x_t, t_B, label_B=None) -> Prediction:
        return read(OURS[self.kind], self.said(x_t, int(t_B[0])), x_t, *self.schedule.levels(t_B, x_t))


def theirs(kind, scheduler=None, **more):
    made = (scheduler or library.DDIMScheduler)(
        num_train_timesteps=T, beta_schedule="scaled_linear", beta_start=0.01, beta_end=0.3, prediction_type=kind, clip_sample=False, **more
    )
    made.alphas_cumprod = made.alphas_cumprod.double()
    return made


@pytest.fixture
def noise(rng):
    return torch.randn(3, *SHAPE, dtype=torch.float64, generator=rng)


@pytest.mark.parametrize("name", ["linear", "squaredcos_cap_v2"])
def test_named_schedules_are_those_of_diffusers(name):
    """float32 there, float64 here."""
    own = {"linear": linear, "squaredcos_cap_v2": cosine}[name](1000)
    made = library.DDPMScheduler(num_train_timesteps=1000, beta_schedule=name)
    torch.testing.assert_close(own.kept, made.alphas_cumprod.double(), rtol=1e-4, atol=1e-7)


def test_noised_images_are_those_of_diffusers(noise):
    made = theirs("epsilon")
    schedule, x, t_B = NoiseSchedule(made.alphas_cumprod), torch.zeros_like(noise) + 0.5, torch.tensor([0, 7, 19])
    torch.testing.assert_close(schedule.noised(x, t_B, noise), made.add_noise(x, noise, t_B))
    torch.testing.assert_close(read("v", made.get_velocity(x, noise, t_B), schedule.noised(x, t_B, noise), *schedule.levels(t_B, x)).x0, x)


@pytest.mark.parametrize("kind", OURS)
@pytest.mark.parametrize("steps", [1, 4, 10, T])
def test_ddim_is_that_of_diffusers_step_by_step(kind, steps, noise):
    made = theirs(kind, timestep_spacing="trailing", set_alpha_to_one=True)
    made.set_timesteps(steps)
    schedule = NoiseSchedule(made.alphas_cumprod)
    assert made.timesteps.tolist() == schedule.times(steps)
    known, x = Known(kind, schedule), noise
    for t in made.timesteps:
        x = made.step(known.said(x, t), t, x).prev_sample
    torch.testing.assert_close(ddim(known, noise, steps), x)


@pytest.mark.parametrize("kind", OURS)
@pytest.mark.parametrize("steps", [1, 4, T])
def test_the_ancestral_sampler_is_that_of_diffusers(kind, steps, noise, monkeypatch):
    """With the same fresh noise; theirs is taken from ours."""
    from tutelage.diffusion import noise_of

    made = theirs(kind, library.DDPMScheduler, timestep_spacing="trailing", variance_type="fixed_small")
    made.alphas = made.alphas.double()
    made.betas = made.betas.double()
    made.set_timesteps(steps)
    seeds, x = [3, 4, 5], noise
    known = Known(kind, NoiseSchedule(made.alphas_cumprod))
    for number, t in enumerate(made.timesteps):
        fresh = noise_of(seeds, SHAPE, "ancestral", number, torch.float64)
        monkeypatch.setattr("diffusers.schedulers.scheduling_ddpm.randn_tensor", lambda *_, fresh=fresh, **__: fresh)
        x = made.step(known.said(x, t), int(t), x).prev_sample
    torch.testing.assert_close(ancestral(known, noise, steps, seeds), x, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("classes", [None, 4])
def test_a_saved_pipeline_says_what_its_net_says(classes, tmp_path, rng):
    unet = net(classes)
    model = diffusers(saved(tmp_path / "p", unet, prediction_type="v_prediction"), null=classes is not None)
    x, t, label = torch.randn(3, 1, 8, 8, generator=rng), torch.tensor([1, 500, 999]), torch.tensor([0, 1, 2])
    with torch.no_grad():
        there = unet.eval()(x, t, class_labels=None if classes is None else label).sample
        assert torch.equal(model.module.eval()(x, t, label), there)
    denoiser = Denoiser(model)
    assert (denoiser.kind, denoiser.classes, len(denoiser.schedule)) == ("v", 0 if classes is None else 3, 1000)
    assert denoiser.schedule == linear(1000)
    assert model.trained
    assert model.module.shape == (1, 8, 8)


def test_a_net_that_also_says_a_variance_is_asked_for_its_mean(tmp_path, rng):
    unet = net(out_channels=2)
    model = diffusers(saved(tmp_path / "p", unet))
    x, t = torch.randn(2, 1, 8, 8, generator=rng), torch.tensor([3, 4])
    with torch.no_grad():
        assert torch.equal(model.module.eval()(x, t, t * 0), unet.eval()(x, t).sample[:, :1])


def test_other_variances_make_a_schedule_of_their_own(tmp_path):
    where = saved(tmp_path / "p", num_train_timesteps=50, beta_schedule="scaled_linear", beta_start=0.001, beta_end=0.2)
    found = Denoiser(diffusers(where)).schedule
    made = library.DDPMScheduler.from_pretrained(where, subfolder="scheduler")
    torch.testing.assert_close(found.kept, made.alphas_cumprod.double(), rtol=1e-5, atol=1e-8)


def test_a_student_may_have_the_shape_alone(tmp_path):
    where = saved(tmp_path / "p")
    one, other = diffusers(where, pretrained=False, seed=1), diffusers(where, pretrained=False, seed=2)
    assert not one.trained
    first, second = (next(iter(each.module.parameters())) for each in (one, other))
    assert not torch.equal(first, second)


@pytest.mark.parametrize(
    ("unet", "scheduler", "options", "said"),
    [
        ({"class_embed_type": "timestep"}, {}, {}, "embeds classes as 'timestep'"),
        ({}, {}, {"null": True}, "knows no classes"),
        ({}, {"rescale_betas_zero_snr": True, "num_train_timesteps": 10}, {}, "keeps nothing of the image"),
    ],
)
def test_other_pipelines_are_refused(unet, scheduler, options, said, tmp_path):
    where = saved(tmp_path / "p", net(**unet), **scheduler)
    with pytest.raises(BadInput, match=said):
        diffusers(where, **options)


def test_what_is_no_pipeline_is_refused(tmp_path):
    where = saved(tmp_path / "p")
    config = tmp_path / "p" / "unet" / "config.json"
    text = config.read_text()
    config.write_text(text.replace("UNet2DModel", "UNet2DConditionModel"))
    with pytest.raises(BadInput, match="expected a UNet2DModel, an image net without text"):
        diffusers(where)
    config.write_text(text)
    noise = tmp_path / "p" / "scheduler" / "scheduler_config.json"
    kept = noise.read_text()
    noise.write_text(json.dumps({"_class_name": "EDMEulerScheduler", "sigma_min": 0.002}))
    with pytest.raises(BadInput, match="EDMEulerScheduler, has no variances"):
        diffusers(where)
    noise.write_text(kept.replace('"epsilon"', '"flow"'))
    with pytest.raises(BadInput, match="prediction_type='flow'"):
        diffusers(where)
    noise.write_text("{")
    with pytest.raises(BadInput, match=r"scheduler of .* cannot be read"):
        diffusers(where)
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match="holds no unet/"):
        diffusers(str(tmp_path / "empty"))
    with pytest.raises(MissingFile, match="does not exist"):
        diffusers("./nothing")


def test_weights_that_would_be_unpickled_are_not_read(tmp_path):
    where = saved(tmp_path / "p")
    file = tmp_path / "p" / "unet" / "diffusion_pytorch_model.safetensors"
    torch.save(net().state_dict(), file.with_suffix(".bin"))
    file.unlink()
    with pytest.raises(BadInput, match="cannot be read"):
        diffusers(where).module  # noqa: B018


def test_guidance_and_no_class_need_a_class_that_means_none(tmp_path, rng):
    model = diffusers(saved(tmp_path / "p", net(3)))
    data = Data(Table({"x": torch.rand(6, 1, 8, 8), "y": torch.arange(6) % 3}), classes=("a", "b", "c"))
    with pytest.raises(BadInput, match="no class that means none"):
        Denoiser(model, guidance=2.0).check((1, 8, 8), data)
    x, t = torch.randn(2, 1, 8, 8, generator=rng), torch.tensor([3, 4])
    with pytest.raises(BadInput, match="asked for images of none"):
        Denoiser(model)(x, t)
    Denoiser(model)(x, t, torch.tensor([0, 2]))


def test_a_pipeline_teaches_from_the_command_line_and_its_student_is_sampled(tmp_path, capsys, monkeypatch):
    """The whole way of a user who has a pipeline that is too slow."""
    monkeypatch.setattr("tutelage.jobs.generators.JUDGED_BY", Fit(steps=2, batch_size=7))
    monkeypatch.setattr("tutelage.jobs.generators.LADDER", (1, 2))
    monkeypatch.setattr("tutelage.evaluation.cost.SECONDS", 0.0)
    where, out = saved(tmp_path / "p", net(11)), str(tmp_path / "out")
    spec = f"diffusers:{where}:null=true"
    words = ["distill", "--teacher", spec, "--student", spec, "--data", "digits", "--recipe", "dmd", "--updates", "1", "--quiet"]
    assert main([*words, "--fit.steps", "2", "--fit.batch-size", "4", "--out", out]) == 0
    assert main(["sample", out, "--out", str(tmp_path / "images"), "--count", "10", "--quiet"]) == 0
    assert len(list((tmp_path / "images").glob("0*.png"))) == 10
    assert main(["sample", spec, "--out", str(tmp_path / "theirs"), "--count", "3", "--steps", "2", "--quiet"]) == 0
    words[4] = "unet:width=4,levels=0"
    assert main([*words, "--fit.steps", "2", "--start", "own", "--out", str(tmp_path / "ours")]) == 0
    capsys.readouterr()
    assert main(["distill", "--teacher", spec, "--student", spec, "--data", "stdlib-bytes", "--recipe", "dmd"]) == 2
    assert "holds no images" in capsys.readouterr().err


def test_an_endless_or_hostile_config_is_one_sentence(tmp_path):
    where = saved(tmp_path / "p")
    (tmp_path / "p" / "unet" / "config.json").write_text(json.dumps({"_class_name": "os.system", "x": 1}))
    with pytest.raises(BadInput, match=r"has a os\.system"):
        diffusers(where)


def test_it_is_resumed_from_its_run_folder(tmp_path):
    """A run's weights are read again with the pipeline's shape and noise."""
    where = saved(tmp_path / "p", net(11))
    spec = f"diffusers:{where}:null=true"
    options = RunOptions(device="cpu", quiet=True)
    run = tutelage.distill(
        student=spec, data="digits", recipe="ddpm", out=tmp_path / "run", fit=Fit(steps=2, batch_size=4), options=options
    )
    from tutelage.jobs.models import model_from

    again = model_from(str(tmp_path / "run"), "teacher", data=tutelage.data.digits(), seed=0)
    assert isinstance(again, Model)
    assert isinstance(again.module, PipelineNet)
    for ours, theirs_ in zip(run.model.module.parameters(), again.module.parameters(), strict=True):
        assert torch.equal(ours, theirs_)
