"""Makes tests/fixtures/tiny-bert: a BERT directory small enough to be kept, with what PyTorch computes from it.

Beside the files of the directory it writes `reference.safetensors`: the tokens and embeddings of the texts in
`texts.json`, and the gradient of a loss for every parameter. The loss is the sum over all texts of the dot product of
the text's vector and fixed weights, `loss_weights`.

    python tools/reference/tiny_bert.py tests/fixtures/tiny-bert

Needs torch, transformers and safetensors; made with PyTorch 1.13 and transformers 4.30.
"""

import json
import pathlib
import sys

import torch
from safetensors.torch import save_file
from transformers import BertConfig, BertModel, BertTokenizerFast

SEED = 20261121
HIDDEN = 32
LAYERS = 2
HEADS = 4
POSITIONS = 48

WORDS = (
    "the a red blue green old new house boat tree paper oil canvas etching water night sun two three and on by of in "
    "with small large light dark line ink wood stone paint ##s ##ed ##ing ##er ##ly"
).split()
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,!?-"
TEXTS = [
    "The red house",
    "a small boat on the water, painted by night",
    "",
    "etchings of old trees and large stones in dark ink on paper; two lines",
    "sun",
    "Blue! green? new - oil on canvas 1994",
]


def make_tokenizer(folder):
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *LETTERS]
    vocabulary += [f"##{letter}" for letter in LETTERS if letter.isalnum()]
    vocabulary = list(dict.fromkeys(vocabulary))
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    tokenizer = BertTokenizerFast(vocab_file=str(folder / "vocab.txt"), do_lower_case=True)
    tokenizer.backend_tokenizer.add_special_tokens(vocabulary[:5])
    tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    return tokenizer, len(vocabulary)


def write_json(path, value):
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def main():
    folder = pathlib.Path(sys.argv[1])
    (folder / "1_Pooling").mkdir(parents=True, exist_ok=True)
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    tokenizer, size = make_tokenizer(folder)
    config = BertConfig(
        vocab_size=size,
        hidden_size=HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        intermediate_size=2 * HIDDEN,
        max_position_embeddings=POSITIONS,
        hidden_act="gelu",
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        initializer_range=0.2,
        # Large enough to be seen in the results, if it were left out.
        layer_norm_eps=1e-3,
    )
    model = BertModel(config, add_pooling_layer=False).eval()
    projector = torch.nn.Linear(HIDDEN, HIDDEN)
    with torch.no_grad():
        # Biases, gains and shifts begin at 0 and 1, where a mistake would not show.
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    keep = ("hidden_size num_hidden_layers num_attention_heads intermediate_size vocab_size max_position_embeddings "
            "type_vocab_size layer_norm_eps hidden_act model_type position_embedding_type").split()
    write_json(folder / "config.json", {key: config.to_dict()[key] for key in keep})
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling")]
    write_json(
        folder / "modules.json",
        [
            {"idx": at, "name": str(at), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for at, (path, kind) in enumerate(kinds)
        ],
    )
    modes = {"cls_token": False, "mean_tokens": True, "max_tokens": False, "mean_sqrt_len_tokens": False}
    pooling = {f"pooling_mode_{mode}": on for mode, on in modes.items()}
    write_json(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": HIDDEN, **pooling})
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": 24, "do_lower_case": False})
    write_json(folder / "texts.json", TEXTS)

    parameters = {name: value for name, value in model.named_parameters()}
    parameters |= {f"projector.{name}": value for name, value in projector.named_parameters()}
    save_file({name: value.detach().contiguous() for name, value in parameters.items()}, folder / "model.safetensors")

    batch = tokenizer(TEXTS, padding=True, truncation=True, max_length=24, return_tensors="pt")
    hidden = model(**batch).last_hidden_state
    mask = batch["attention_mask"].unsqueeze(-1).float()
    embeddings = projector((hidden * mask).sum(1) / mask.sum(1))
    weights = torch.randn_like(embeddings)
    (embeddings * weights).sum().backward()
    reference = {f"gradient.{name}": value.grad for name, value in parameters.items()}
    reference["embeddings"] = embeddings.detach()
    reference["loss_weights"] = weights
    reference["tokens"] = batch["input_ids"].to(torch.int32)
    reference["token_counts"] = batch["attention_mask"].sum(1).to(torch.int32)
    save_file({name: value.contiguous() for name, value in reference.items()}, folder / "reference.safetensors")
    for file in folder.rglob("*.safetensors"):
        file.chmod(0o644)


main()
