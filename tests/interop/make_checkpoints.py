#!/usr/bin/env python3
"""Writes checkpoints with PyTorch and torchvision, for the tests of the readers and key maps (InteropTests).

    make_checkpoints.py FOLDER            all of them, about half a gigabyte
    make_checkpoints.py --tiny FOLDER     the small files that tests/fixtures holds

Needs PyTorch 1.8 or later and torchvision (Debian: python3-torch, python3-torchvision). Weights are random and seeded; nothing is fetched.
A network NAME becomes NAME.pth (some also NAME.safetensors) and NAME.io.safetensors, its input x and logits y.
The attentions are written anew here, with the names of the repositories whose checkpoints the key maps are for.
"""
import argparse
import collections
import dataclasses
import datetime
import decimal
import enum
import functools
import io
import json
import os
import pathlib
import struct
import sys
import tarfile
import uuid

import numpy
import torch
from torch import nn

TYPES = {torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64", torch.int32: "I32",
         torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL", torch.complex64: "C64"}


def save_safetensors(tensors, path):
    """Eight bytes for the header's length, the header as JSON, the values."""
    header, chunks, at = {"__metadata__": {"format": "pt"}}, [], 0
    for name, tensor in tensors.items():
        # numpy lacks bfloat16; the bits are what counts.
        tensor = tensor.detach().contiguous()
        data = (tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor).numpy().tobytes()
        header[name] = {"dtype": TYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [at, at + len(data)]}
        at += len(data)
        chunks.append(data)
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + b"".join(chunks))


# Attentions, each under its repository's names.

class TimmSe(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.fc1 = nn.Conv2d(channels, max(8, channels // 16), 1)
        self.fc2 = nn.Conv2d(max(8, channels // 16), channels, 1)

    def forward(self, x):
        return x * self.fc2(self.fc1(x.mean((2, 3), keepdim=True)).relu()).sigmoid()


class OfficialSe(nn.Module):
    def __init__(self, channels):
        super().__init__()
        hidden = channels // 16
        self.fc = nn.Sequential(nn.Linear(channels, hidden, bias=False), nn.ReLU(), nn.Linear(hidden, channels, bias=False), nn.Sigmoid())

    def forward(self, x):
        return x * self.fc(x.mean((2, 3)))[:, :, None, None]


class OfficialEca(nn.Module):
    def __init__(self, channels, kernel=3):
        super().__init__()
        self.conv = nn.Conv1d(1, 1, kernel, padding=kernel // 2, bias=False)

    def forward(self, x):
        return x * self.conv(x.mean((2, 3))[:, None])[:, 0].sigmoid()[:, :, None, None]


class OfficialCbam(nn.Module):
    class Channel(nn.Module):
        def __init__(self, channels):
            super().__init__()
            self.mlp = nn.Sequential(nn.Flatten(), nn.Linear(channels, channels // 16), nn.ReLU(), nn.Linear(channels // 16, channels))

        def forward(self, x):
            return x * (self.mlp(x.mean((2, 3))) + self.mlp(x.amax((2, 3)))).sigmoid()[:, :, None, None]

    class Spatial(nn.Module):
        def __init__(self):
            super().__init__()
            self.spatial = nn.Sequential()
            self.spatial.add_module("conv", nn.Conv2d(2, 1, 7, padding=3, bias=False))
            self.spatial.add_module("bn", nn.BatchNorm2d(1))

        def forward(self, x):
            return x * self.spatial(torch.stack([x.amax(1), x.mean(1)], 1)).sigmoid()

    def __init__(self, channels):
        super().__init__()
        self.ChannelGate, self.SpatialGate = self.Channel(channels), self.Spatial()

    def forward(self, x):
        return self.SpatialGate(self.ChannelGate(x))


class OfficialBam(nn.Module):
    def __init__(self, channels):
        super().__init__()
        hidden = channels // 16
        self.channel_att, self.spatial_att = nn.Module(), nn.Module()
        self.channel_att.gate_c = channel = nn.Sequential()
        channel.add_module("gate_c_fc_0", nn.Linear(channels, hidden))
        channel.add_module("gate_c_bn_1", nn.BatchNorm1d(hidden))
        channel.add_module("gate_c_relu_1", nn.ReLU())
        channel.add_module("gate_c_fc_final", nn.Linear(hidden, channels))
        self.spatial_att.gate_s = spatial = nn.Sequential()
        for i, (name, conv) in enumerate([("reduce0", nn.Conv2d(channels, hidden, 1))] + [
                (f"di_{i}", nn.Conv2d(hidden, hidden, 3, padding=4, dilation=4)) for i in range(2)]):
            spatial.add_module(f"gate_s_conv_{name}", conv)
            spatial.add_module(f"gate_s_bn_{name}", nn.BatchNorm2d(hidden))
            spatial.add_module(f"gate_s_relu_{name}", nn.ReLU())
        spatial.add_module("gate_s_conv_final", nn.Conv2d(hidden, 1, 1))

    def forward(self, x):
        return x * (1 + (self.channel_att.gate_c(x.mean((2, 3)))[:, :, None, None] * self.spatial_att.gate_s(x)).sigmoid())


# Networks.

def resnet(block, layers, name=None, attention=None, classes=10):
    """torchvision's ResNet, with an attention called `name` before each addition."""
    from torchvision.models.resnet import ResNet

    class Block(block):
        def __init__(self, inplanes, planes, *arguments, **settings):
            super().__init__(inplanes, planes, *arguments, **settings)
            if name:
                setattr(self, name, attention(planes * self.expansion))

        def forward(self, x):
            y = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
            if hasattr(self, "conv3"):
                y = self.bn3(self.conv3(y.relu()))
            if name:
                y = getattr(self, name)(y)
            return (y + (x if self.downsample is None else self.downsample(x))).relu()

    return ResNet(Block, layers, num_classes=classes)


def bam_resnet(block, layers):
    """torchvision's ResNet with bottleneck attention after its first three stages."""
    network = resnet(block, layers)
    for i, channels in enumerate([64, 128, 256], 1):
        setattr(network, f"bam{i}", OfficialBam(channels * block.expansion))
        getattr(network, f"layer{i}").register_forward_hook(lambda module, inputs, output, bam=f"bam{i}": getattr(network, bam)(output))
    return network


class TimmMobileNetV2(nn.Module):
    """MobileNetV2 with timm's names: the first stage is a depthwise-separable block, the others expand."""

    class Block(nn.Module):
        def __init__(self, inputs, outputs, stride, expand):
            super().__init__()
            width = inputs * expand
            self.skip, self.expands = stride == 1 and inputs == outputs, expand > 1
            depthwise = nn.Conv2d(width, width, 3, stride, 1, groups=width, bias=False)
            if self.expands:
                self.conv_pw, self.bn1 = nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width)
                self.conv_dw, self.bn2 = depthwise, nn.BatchNorm2d(width)
                self.conv_pwl, self.bn3 = nn.Conv2d(width, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
            else:
                self.conv_dw, self.bn1 = depthwise, nn.BatchNorm2d(width)
                self.conv_pw, self.bn2 = nn.Conv2d(width, outputs, 1, bias=False), nn.BatchNorm2d(outputs)

        def forward(self, x):
            relu6 = nn.functional.relu6
            if self.expands:
                y = self.bn3(self.conv_pwl(relu6(self.bn2(self.conv_dw(relu6(self.bn1(self.conv_pw(x))))))))
            else:
                y = self.bn2(self.conv_pw(relu6(self.bn1(self.conv_dw(x)))))
            return x + y if self.skip else y

    def __init__(self, classes=10):
        super().__init__()
        self.conv_stem, self.bn1 = nn.Conv2d(3, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32)
        stages, inputs = [], 32
        for expand, outputs, blocks, stride in [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]:
            stages.append(nn.Sequential(*[
                self.Block(inputs if i == 0 else outputs, outputs, stride if i == 0 else 1, expand) for i in range(blocks)]))
            inputs = outputs
        self.blocks = nn.Sequential(*stages)
        self.conv_head, self.bn2 = nn.Conv2d(320, 1280, 1, bias=False), nn.BatchNorm2d(1280)
        self.classifier = nn.Linear(1280, classes)

    def forward(self, x):
        relu6 = nn.functional.relu6
        x = self.blocks(relu6(self.bn1(self.conv_stem(x))))
        return self.classifier(relu6(self.bn2(self.conv_head(x))).mean((2, 3)))


def eca_mobilenet():
    """torchvision's MobileNetV2 with efficient channel attention at the end of each residual branch, as ECANet has it."""
    from torchvision.models import mobilenet_v2

    network = mobilenet_v2(num_classes=10)
    for block in list(network.features)[1:-1]:
        channels = block.conv[-1].num_features
        block.conv.add_module(str(len(block.conv)), OfficialEca(channels, 1 if channels <= 96 else 3))
    return network


def randomise(network):
    """Norms and biases that matter, and statistics that fit, so that the logits depend on every tensor."""
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.2)
            module.momentum = None  # the plain average over all batches
        elif isinstance(module, nn.LayerNorm):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.2)
        elif hasattr(module, "layer_scale"):
            nn.init.uniform_(module.layer_scale, 0.2, 0.6)
            for layer in module.modules():  # a standard deviation of 0.02 leaves next to nothing of a branch
                if isinstance(layer, (nn.Linear, nn.Conv2d)):
                    nn.init.kaiming_normal_(layer.weight, mode="fan_in")
    network.train()
    with torch.no_grad():
        for _ in range(2):
            network(torch.randn(4, 3, 64, 64))
    return network.eval()


def write_network(folder, name, network, pack=lambda state: state, safetensors=False, old=False):
    randomise(network)
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        y = network(x)
    state = network.state_dict()
    torch.save(pack(state), os.path.join(folder, name + ".pth"))
    if old:
        torch.save(pack(state), os.path.join(folder, name + ".old.pth"), _use_new_zipfile_serialization=False)
    if safetensors:
        save_safetensors(state, os.path.join(folder, name + ".safetensors"))
    # The gradient of sum(y * y) / 2 by the images, through every layer.
    network(x.requires_grad_()).square().sum().div(2).backward()
    save_safetensors({"x": x, "y": y, "dx": x.grad}, os.path.join(folder, name + ".io.safetensors"))
    print(f"{name}: {sum(value.numel() for value in state.values())} values, logits up to {y.abs().max():.3g}")


def write_tiny(folder):
    """A checkpoint of all types, tied and turned tensors, small enough to be kept; and the same in the format before PyTorch 1.6."""
    state = nn.Module().state_dict()
    for dtype in list(TYPES) + [torch.complex128]:
        state[str(dtype).replace("torch.", "")] = torch.arange(6).reshape(2, 3).to(dtype)
    whole = torch.arange(24.0).reshape(4, 6)
    state.update(whole=whole, tied=whole, turned=whole.t(), column=whole[:, 5], part=whole[1:3, 2:5], every_other=whole[::2, ::3],
                 channels_last=torch.arange(16.0).reshape(1, 2, 2, 4).contiguous(memory_format=torch.channels_last),
                 parameter=nn.Parameter(whole[0]), scalar=torch.tensor(7.0), empty=torch.zeros(0, 3))
    checkpoint = {"epoch": 3, "best": 0.5, "arch": "tiny", "size": torch.Size([3, 32]), "state_dict": state,
                  "optimizer": torch.optim.SGD([nn.Parameter(torch.zeros(2))], lr=0.1).state_dict()}
    torch.save(checkpoint, os.path.join(folder, "torch_save.pth"))
    torch.save(checkpoint, os.path.join(folder, "torch_save_old.pth"), _use_new_zipfile_serialization=False)
    write_objects(folder)
    return checkpoint


class Color(enum.Enum):
    RED = 1


@dataclasses.dataclass
class Settings:
    rate: float = 0.1
    names: list = dataclasses.field(default_factory=lambda: ["a"])


class Slotted:
    __slots__ = ["value"]

    def __getstate__(self):
        return self.value

    def __setstate__(self, state):
        self.value = state


class Dictionary(dict):
    """A dictionary of a class of its own, as configuration libraries have."""


class Plain:
    pass


def objects():
    """Weights, and beside them one of each kind of object that training programs put into checkpoints."""
    slotted, plain, weight = Slotted(), Plain(), nn.Parameter(torch.arange(6.0).reshape(2, 3))
    slotted.value, plain.value, weight.label = 1, torch.ones(1), "a parameter with an attribute"
    state = collections.OrderedDict([("weight", weight.data), ("bias", torch.tensor([1.5, -2.0])), ("marked", weight)])
    optimizer = torch.optim.Adam([weight])
    weight.sum().backward()
    optimizer.step()
    weight.data.copy_(torch.arange(6.0).reshape(2, 3))
    numpy.random.seed(1)
    return {
        "state_dict": state, "counter": collections.Counter("aab"), "set": {1, 2}, "frozenset": frozenset([1]), "bytes": b"\xff\0", "bytearray": bytearray(b"a"),
        "complex": 1 + 2j, "numpy_scalar": numpy.float64(0.5), "numpy_array": numpy.arange(3), "namespace": argparse.Namespace(lr=0.1, decay=None),
        "defaultdict": collections.defaultdict(list, a=[1]), "ordered": collections.OrderedDict(a=1), "datetime": datetime.datetime(2020, 1, 2),
        "timedelta": datetime.timedelta(1), "path": pathlib.PurePosixPath("/tmp/a"), "enum": Color.RED, "size": torch.Size([1, 2]),
        "device": torch.device("cuda:0"), "dtype": torch.float16, "layout": torch.strided, "optimizer": optimizer.state_dict(), "dataclass": Settings(),
        "slotted": slotted, "plain": plain, "dictionary": Dictionary(a=1), "deque": collections.deque([1], 5), "decimal": decimal.Decimal("1.5"),
        "uuid": uuid.UUID(int=1), "range": range(3), "slice": slice(1, 2), "partial": functools.partial(max, 1), "function": torch.nn.functional.relu,
        "class": Settings, "numpy_rng": numpy.random.get_state(), "rng": torch.zeros(3, dtype=torch.uint8), "large": 1 << 100, "enormous": 1 << 1000, "epoch": 3,
        "none": None, "flag": True, "loss": 0.25, "name": "a", 7: "under a number",
    }


def write_objects(folder):
    """The objects in both formats."""
    torch.save(objects(), os.path.join(folder, "torch_save_objects.pth"))
    torch.save(objects(), os.path.join(folder, "torch_save_objects_old.pth"), _use_new_zipfile_serialization=False)


def write_rare_tensors(folder):
    """A state dict with tensors that TorchSharp has no type for, in both formats."""
    state = {"weight": torch.arange(3.0), "quantized": torch.quantize_per_tensor(torch.arange(3.0), 0.5, 0, torch.qint8),
             "sparse": torch.eye(3).to_sparse(), "storage": torch.arange(2.0).storage(), "bias": torch.ones(2)}
    torch.save(state, os.path.join(folder, "torch_save_rare.pth"))
    torch.save(state, os.path.join(folder, "torch_save_rare_old.pth"), _use_new_zipfile_serialization=False)


def write_tar(path):
    """The outside of what torch.save wrote before PyTorch 0.2: a tar archive of these four files."""
    with tarfile.open(path, "w:", format=tarfile.PAX_FORMAT) as tar:
        for name in ["sys_info", "pickle", "tensors", "storages"]:
            tar.addfile(tarfile.TarInfo(name), io.BytesIO())


def main(folder):
    from torchvision.models import convnext_tiny, efficientnet_b0, efficientnet_b2, efficientnet_v2_s, mobilenet_v2, resnet50
    from torchvision.models.resnet import BasicBlock, Bottleneck

    tiny = write_tiny(folder)
    write_rare_tensors(folder)
    for protocol in range(1, 6):
        if protocol > 1:
            torch.save(tiny, os.path.join(folder, f"torch_save_protocol_{protocol}.pth"), pickle_protocol=protocol)
        old = os.path.join(folder, f"torch_save_old_protocol_{protocol}.pth")
        torch.save(tiny, old, pickle_protocol=protocol, _use_new_zipfile_serialization=False)
        torch.save(objects(), os.path.join(folder, f"torch_save_objects_{protocol}.pth"), pickle_protocol=protocol, _use_new_zipfile_serialization=protocol % 2 == 0)
    write_tar(os.path.join(folder, "torch_save_oldest.pth"))
    torch.save(nn.Linear(2, 2), os.path.join(folder, "whole_model.pth"))
    torch.save(nn.Linear(2, 2), os.path.join(folder, "whole_model_old.pth"), _use_new_zipfile_serialization=False)
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), os.path.join(folder, "torch_script.pt"))
    shallow = [1, 1, 1, 1]
    write_network(folder, "timm_seresnet50", resnet(Bottleneck, [3, 4, 6, 3], "se", TimmSe, classes=1000), safetensors=True)
    write_network(folder, "torchvision_resnet50", resnet50(num_classes=10))
    write_network(folder, "torchvision_mobilenet_v2", mobilenet_v2(num_classes=10), lambda state: {"model": state, "epoch": 3})
    write_network(folder, "torchvision_convnext_tiny", convnext_tiny(num_classes=10))
    write_network(folder, "torchvision_efficientnet_b0", efficientnet_b0(num_classes=10))
    write_network(folder, "torchvision_efficientnet_b2", efficientnet_b2(num_classes=10))
    write_network(folder, "torchvision_efficientnet_v2_s", efficientnet_v2_s(num_classes=10))
    write_network(folder, "timm_mobilenetv2", TimmMobileNetV2())
    write_network(folder, "official_senet", resnet(BasicBlock, shallow, "se", OfficialSe), old=True)
    write_network(folder, "official_cbam", resnet(BasicBlock, shallow, "cbam", OfficialCbam),
                  lambda state: {"state_dict": {"module." + name: value for name, value in state.items()}, "best_prec1": torch.tensor(0.7)}, old=True)
    write_network(folder, "official_bam", bam_resnet(BasicBlock, shallow), old=True)
    write_network(folder, "official_eca", resnet(BasicBlock, shallow, "eca", OfficialEca), old=True)
    write_network(folder, "official_eca_mobilenet", eca_mobilenet())


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3) or sys.argv[1:-1] not in ([], ["--tiny"]):
        sys.exit(__doc__)
    torch.manual_seed(20)
    torch.set_num_threads(min(2, os.cpu_count() or 1))
    os.makedirs(sys.argv[-1], exist_ok=True)
    (write_tiny if sys.argv[1] == "--tiny" else main)(sys.argv[-1])
