"""Hugging Face classifiers and encoders of text and images: `hf:FOLDER_OR_ID`, through transformers."""

from __future__ import annotations

import contextlib
import importlib.util
import pickle
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from tutelage.errors import BadInput, MissingFile, in_short, nearest
from tutelage.extras import needed
from tutelage.signals import Model
from tutelage.signals.images import ImageInputs
from tutelage.signals.tokens import Tokens
from tutelage.students.adapters import merged
from tutelage.students.labels import check_order

SAFE: dict[str, Any] = {"dtype": torch.float32, "trust_remote_code": False}
OUTSIDE = ("trust_remote_code", "code_revision", "token", "use_auth_token", "cache_dir", "proxies")
"""Settings of the loading, not of the model: no spec turns code on or holds a secret."""
HEADS = {"text": "AutoModelForSequenceClassification", "images": "AutoModelForImageClassification"}


def hf(
    where: str,
    *,
    kind: str | None,
    classes: Sequence[str],
    count: int | None,
    seed: int = 0,
    pretrained: bool | None = None,
    max_length: int = 128,
    tokenizer: str | None = None,
    size: int | None = None,
    encoder: bool = False,
    **changes: Any,
) -> Model:
    """Make a handle on a Hugging Face model as a classifier, or an encoder; nothing but its config is read before it is used.

    Args:
        where: a folder with config.json, a name on the hub, or python:PACKAGE/FOLDER inside an installed package.
        kind: of the data, "text" or "images".
        classes: names of the data's classes, in order.
        count: number of the data's classes; None where they have no labels: then the model's own.
        seed: of weights that are drawn: a head where there is none for these classes, or all of them.
        pretrained: whether to read weights; by default where the folder has some.
        max_length: tokens after which a text is cut.
        tokenizer: where its tokenizer is, if not in `where`.
        size: side that images are scaled to, in pixels; by default what its preprocessor says, else its config.
        encoder: leave it without a head: what it shows are the hidden states after its last layer, (B, T, D).
        changes: settings of the config, such as num_hidden_layers=2; with weights, layers beyond them are left out.

    Returns:
        A handle that keeps the model's own tokenizer or normalisation, and counts as trained where it has a head for these classes, or
        needs none and has weights.

    Raises:
        MissingFile: no such folder.
        BadInput: no config, a setting that it does not have, a model of another kind than the data, or labels in another order.

    Source: https://huggingface.co/docs/transformers/model_doc/auto.
    """
    refuse_outside(where, changes)
    transformers = needed("transformers", "hf", f"hf:{where}")
    where = in_package(where)
    place = Path(where)
    if not place.is_dir() and (place.exists() or where.startswith((".", "/", "~"))):
        raise MissingFile(f"hf:{where} does not exist as a folder")
    if kind not in HEADS:
        made = "an encoder" if encoder else "a classifier"
        raise BadInput(f"hf:{where} is made {made} of text or images, but the data hold {kind or 'neither'}")
    with quiet():
        config = config_of(transformers, where, place, changes)
    if not encoder and count is None and not _has_head(config, config.num_labels):
        raise BadInput(f"hf:{where} is no classifier yet, and data without labels do not tell how many classes to make it one of")
    count = config.num_labels if count is None else count
    auto = transformers.AutoModel if encoder else getattr(transformers, HEADS[kind])
    if type(config) not in auto._model_mapping:
        raise BadInput(f"hf:{where} is a {config.model_type} model, which does not classify {kind}; give a model of {kind}, or other data")
    if pretrained is None:
        pretrained = not place.is_dir() or any(place.glob("*.safetensors")) or any(place.glob("pytorch_model*.bin"))
    fits = pretrained and (encoder or _has_head(config, count))
    if encoder:
        pass
    elif fits:
        check_order([str(config.id2label[i]) for i in sorted(config.id2label)], classes, f"hf:{where}")
    else:
        names = list(classes) or [str(i) for i in range(count)]
        config.num_labels = count
        config.id2label, config.label2id = dict(enumerate(names)), {n: i for i, n in enumerate(names)}
    inputs: Tokens | ImageInputs
    if kind == "text":
        inputs = Tokens(lambda: tokenizer_of(tokenizer or where, config.vocab_size), max_length)
    else:
        own = getattr(config, "image_size", None)
        read = ImageInputs.read(place, size=size, channels=getattr(config, "num_channels", 3), argument="pixel_values")
        inputs = ImageInputs(read.size or own, read.mean, read.std, read.channels, read.argument)

    def blueprint() -> nn.Module:
        with quiet():
            return auto.from_config(config)

    def make() -> nn.Module:
        if isinstance(inputs, Tokens) and config.pad_token_id is None:
            config.pad_token_id = inputs.tokenizer.pad_token_id
        if not pretrained:
            return blueprint()
        try:
            with quiet():
                return auto.from_pretrained(
                    where, config=config, ignore_mismatched_sizes=True, dtype=torch.float32, trust_remote_code=False
                )
        except (OSError, ValueError, RuntimeError, KeyError, SafetensorError, pickle.UnpicklingError) as error:
            raise BadInput(f"the weights of hf:{where} cannot be read: {in_short(error)}") from None

    name = place.resolve().parent.name if place.name == "model" else place.name
    if encoder:
        return Model(make, name=name, seed=seed, inputs=inputs, trained=fits, blueprint=blueprint, logits=_states, encodes=True)
    said = [str(config.id2label[i]) for i in sorted(config.id2label)]
    return Model(make, name=name, seed=seed, inputs=inputs, trained=fits, blueprint=blueprint, classes=said if fits else ())


def _states(output: Any) -> Tensor:
    """The hidden states after the last layer."""
    return output.last_hidden_state


def in_package(where: str) -> str:
    """The folder that python:PACKAGE/FOLDER names, inside an installed package, found without importing it; anything else as it is.

    Raises:
        MissingFile: no such package.
    """
    if not where.startswith("python:"):
        return where
    package, _, inside = where.removeprefix("python:").partition("/")
    found = importlib.util.find_spec(package) if package.isidentifier() else None
    places = list(found.submodule_search_locations or ()) if found is not None else []
    if not places:
        raise MissingFile(f"hf:{where}: the package {package!r} is not installed here; give a folder, or install it")
    return str(Path(places[0]) / inside)


def save(model: Model, folder: Path) -> None:
    """Write a Hugging Face folder: config, weights, adapters added into them, and the tokenizer or the normalisation."""
    with quiet():
        merged(model.module).save_pretrained(folder)  # type: ignore[operator]
    write = getattr(model.preprocessing, "save", None)
    if write is not None:
        write(folder)


def is_hf(module: nn.Module) -> bool:
    """Whether a module is transformers' own kind; imports nothing."""
    return any(c.__module__ == "transformers.modeling_utils" and c.__name__ == "PreTrainedModel" for c in type(module).__mro__)


def refuse_outside(where: str, changes: Mapping[str, Any]) -> None:
    """Refuse settings of the loading among those of the model.

    Raises:
        BadInput: names the first one.
    """
    for key in OUTSIDE:
        if key in changes:
            raise BadInput(
                f"hf:{where} takes no option {key!r}: code of models is not run, and the rest comes from the environment (HF_TOKEN, ...)"
            )


def config_of(transformers: Any, where: str, place: Path, changes: Mapping[str, Any], file: bool = False) -> Any:
    """Read the config of a folder or a name on the hub, with some settings changed.

    Args:
        transformers: the package.
        where: as the user named it.
        place: the folder, if it is one.
        changes: the settings.
        file: whether the config is in a file of weights in that folder.

    Raises:
        MissingFile: the folder has none.
        BadInput: it cannot be read, has no such setting, or names code.
    """
    if place.is_dir() and not file and not (place / "config.json").is_file():
        raise MissingFile(f"hf:{where} holds no config.json; expected a folder that save_pretrained wrote")
    try:
        source = str(place) if file else where
        config, unused = transformers.AutoConfig.from_pretrained(source, trust_remote_code=False, return_unused_kwargs=True, **changes)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"the config of hf:{where} cannot be read: {in_short(error)}") from None
    unused = {k for k in unused if k in changes and k != "gguf_file"}
    if unused:
        known = list(config.to_dict())
        first = min(unused)
        raise BadInput(f"hf:{where} has no setting {first!r}{nearest(first, known)}")
    config.__dict__.pop("auto_map", None)  # nor do the folders that we write point to code
    for part in (config, *(getattr(config, name, None) for name in getattr(config, "sub_configs", {}))):
        kernel = getattr(part, "_attn_implementation", None)
        if isinstance(kernel, str) and "/" in kernel:
            raise BadInput(f"hf:{where} names code on the hub for its attention, {kernel!r}, which is not run; take that out of its config")
    return config


def _has_head(config: Any, count: int) -> bool:
    named = (config.architectures or [""])[0]
    return named.endswith(("ForSequenceClassification", "ForImageClassification")) and config.num_labels == count


def tokenizer_of(where: str, vocabulary: int | None = None) -> Any:
    """The tokenizer of a Hugging Face folder or name, or in a GGUF file.

    Args:
        where: the folder, the file, or a name on the hub.
        vocabulary: tokens that the model knows; None where that is not known.

    Raises:
        BadInput: there is none that can be read, or it knows more tokens than the model.
    """
    transformers = needed("transformers", "hf", f"the tokenizer of {where}")
    path = Path(where).expanduser()
    file = {"gguf_file": path.name} if path.suffix == ".gguf" and path.is_file() else {}
    try:
        with quiet():
            tokenizer = transformers.AutoTokenizer.from_pretrained(str(path.parent) if file else where, trust_remote_code=False, **file)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"hf:{where} has no tokenizer that can be read ({in_short(error)}); name one with tokenizer=FOLDER") from None
    tokenizer.init_kwargs.pop("auto_map", None)
    words = len(tokenizer)
    if words <= len(set(tokenizer.all_special_ids)):  # what the library makes where the files are missing
        raise BadInput(f"hf:{where} has no tokenizer that can be read (it knows no words); name one with tokenizer=FOLDER")
    if vocabulary is not None and words > vocabulary:
        raise BadInput(f"the tokenizer of hf:{where} knows {words} tokens, the model {vocabulary}; give the one it was trained with")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    return tokenizer


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the library's remarks on new heads and its bars off the screen; what matters is said by us."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
