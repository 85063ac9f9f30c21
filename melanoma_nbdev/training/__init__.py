"""Training: a manifest goes in; `oof.csv` and weights in a run folder come out (torch, fastai, timm)."""
