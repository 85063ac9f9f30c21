"The page with its network on torch and timm, to be measured beside the page as it is."
import sys
import types

import timm
import torch

# onnxruntime's part in time and memory is not counted
sys.modules['onnxruntime'] = types.SimpleNamespace(InferenceSession=object)

from melanoma_nbdev.bedside.app import MelanomaPage  # noqa: E402
from melanoma_nbdev.bedside.inference import Predictor  # noqa: E402
from melanoma_nbdev.core import package_dir, read_json  # noqa: E402


class Network(torch.nn.Module):
    "The network of the card, untrained, with the two outputs that the page asks for."
    def __init__(self, card):
        super().__init__()
        self.body = timm.create_model(card['arch'], num_classes=0, global_pool='')
        self.head = torch.nn.Linear(self.body.num_features, len(card['classes']))
        self.eval()

    def get_outputs(self):
        "The names of what `run` gives."
        return [types.SimpleNamespace(name=name) for name in ('logits', 'cam')]

    @torch.inference_mode()
    def run(self, names, inputs):
        "Logits and class maps, as onnxruntime would give them."
        features = self.body(torch.from_numpy(inputs['image']))
        maps = torch.einsum('kc,nchw->nkhw', self.head.weight, features)
        return (maps.mean((2, 3)) + self.head.bias).numpy(), maps.numpy()


def page():
    "The page's widget."
    predictor = Predictor.__new__(Predictor)
    card = read_json(package_dir()/'weights'/'card.json')
    predictor.card, predictor.classes = card, card['classes']
    predictor.session, predictor.views = Network(card), card.get('symmetries', 8)
    return MelanomaPage(predictor, in_background=True).box
