"""The architectures of the simplification benchmark, with random weights.

timm and transformers begin with biases of 0 and scales of 1. A simplifier may delete those, which no
trained model has, and looks better than it is: every one-dimensional parameter is perturbed.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import nn

from simplifying import torchvision_shim  # noqa: F401 -- timm and transformers import torchvision

__all__ = ["ARCHITECTURES", "Sample", "build"]


@dataclass(frozen=True, slots=True)
class Sample:
    """A module and what it is exported with.

    Args:
        module: The module, or a scripted one.
        inputs: Input name to the tensor that is exported with, in the order of the parameters.
        dynamic: Input name to its dynamic axes and their names.
        other: Axis name to its size in the second check.
    """

    module: nn.Module
    inputs: Mapping[str, torch.Tensor]
    dynamic: Mapping[str, Mapping[int, str]]
    other: Mapping[str, int] = field(default_factory=lambda: {"batch": 3})


ARCHITECTURES: dict[str, Callable[[], Sample]] = {}


def architecture(function):
    ARCHITECTURES[function.__name__] = function
    return function


def build(name):
    """Return an architecture in evaluation mode, its weights seeded and its vectors perturbed."""
    torch.manual_seed(0)
    sample = ARCHITECTURES[name]()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in sample.module.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
        for module in sample.module.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.uniform_(-0.1, 0.1)
                module.running_var.uniform_(0.5, 1.5)
    return sample


def image_model(module, side=224, *, resizes=False):
    axes, other = {0: "batch"}, {"batch": 3}
    if resizes:
        axes, other = axes | {2: "height", 3: "width"}, other | {"height": 256, "width": 192}
    image = torch.randn(1, 3, side, side)
    return Sample(module.eval(), {"image": image}, {"image": axes}, other)


def from_timm(name, **options):
    import timm

    return image_model(timm.create_model(name, pretrained=False), **options)


@architecture
def deit():
    return from_timm("deit_small_patch16_224")


@architecture
def convnext():
    return from_timm("convnext_tiny")


@architecture
def swin():
    return from_timm("swin_tiny_patch4_window7_224")


@architecture
def mobilenetv3():
    return from_timm("mobilenetv3_large_100", resizes=True)


@architecture
def resnet50():
    import torchvision

    return image_model(torchvision.models.resnet50(weights=None), resizes=True)


def text_model(module, vocabulary, length):
    tokens = torch.randint(0, vocabulary, (2, length))
    mask = torch.ones(2, length, dtype=torch.int64)
    axes = {0: "batch", 1: "sequence"}
    inputs = {"input_ids": tokens, "attention_mask": mask}
    return Sample(module.eval(), inputs, dict.fromkeys(inputs, axes), {"batch": 3, "sequence": 11})


class Encoder(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids, attention_mask):
        found = self.model(input_ids=input_ids, attention_mask=attention_mask)
        return found.last_hidden_state, found.pooler_output


class Decoder(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids, attention_mask):
        return self.model(
            input_ids=input_ids, attention_mask=attention_mask, use_cache=False
        ).logits


@architecture
def bert():
    from transformers import BertConfig, BertModel

    model = BertModel(BertConfig(attn_implementation="sdpa"))
    return text_model(Encoder(model), 1000, 32)


@architecture
def llama():
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=4096,
        hidden_size=256,
        intermediate_size=688,
        num_hidden_layers=6,
        num_attention_heads=8,
        num_key_value_heads=4,
        max_position_embeddings=512,
        attn_implementation="sdpa",
    )
    return text_model(Decoder(LlamaForCausalLM(config)), 4000, 16)


@architecture
def defdetr():
    from simplifying.deformable_detr import DeformableDetr

    return image_model(DeformableDetr(), 256)


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(1000, 64)
        self.lstm = nn.LSTM(64, 96, 2, bidirectional=True, batch_first=True)
        self.output = nn.Linear(192, 20)

    def forward(self, input_ids):
        hidden, _ = self.lstm(self.embed(input_ids))
        return self.output(hidden).log_softmax(-1)


@architecture
def lstm():
    inputs = {"input_ids": torch.randint(0, 1000, (2, 24))}
    dynamic = {"input_ids": {0: "batch", 1: "sequence"}}
    return Sample(Tagger().eval(), inputs, dynamic, {"batch": 3, "sequence": 11})


class Branches(nn.Module):
    """A branch on the data; one side reshapes by sizes it reads."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(32, 32)
        self.second = nn.Linear(32, 32)
        self.norm = nn.LayerNorm(32)

    def forward(self, x):
        def shuffled(x):
            heads = self.first(x).view(x.shape[0], -1, 8)
            return heads.transpose(1, 2).reshape(x.shape[0], -1)

        def scaled(x):
            return self.norm(self.second(x)) * 2.0

        return torch.cond(x.sum() > 0, shuffled, scaled, (x,))


@architecture
def cond():
    return Sample(Branches().eval(), {"x": torch.randn(4, 32)}, {"x": {0: "batch"}})


class Rounds(nn.Module):
    """A loop with a branch inside; its count is an input."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(16, 16)
        self.norm = nn.LayerNorm(16)

    def forward(self, x, k):
        y = x
        for i in range(int(k)):
            heads = self.linear(y).view(x.shape[0], -1, 4).transpose(1, 2)
            y = self.norm(torch.relu(heads.reshape(x.shape[0], -1)))
            y = y + x if bool(y.sum() > float(i)) else y * torch.ones(y.shape[1]) * 2.0
        return y


@architecture
def loop():
    inputs = {"x": torch.randn(3, 16), "k": torch.tensor(3)}
    return Sample(torch.jit.script(Rounds().eval()), inputs, {"x": {0: "batch"}}, {"batch": 5})
