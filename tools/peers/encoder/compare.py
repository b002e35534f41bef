"""One table: ascribe's encoder, ONNX Runtime f32 and PyTorch f32 on the same weights, tokens and cores.

Each round times every program once, one after the other, so that a slow moment of a shared machine falls on all
alike: a pause, in which the threads of the program before stop turning in their waiting loops, a pass that is not
counted, then passes one behind the other, as in ingest. The table shows medians over the rounds, and the medians of
the ratios within a round. The first values of the vectors are compared as well.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--program", required=True, help="the built bench `encoder`")
    parser.add_argument("--model", required=True, help="BERT directory")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", help="measure these alone beside ascribe, such as onnx,torch")
    parser.add_argument("--json", action="store_true", help="the table as JSON")
    return parser.parse_args()


GIVEN = arguments()
# OpenBLAS, which may stand behind PyTorch, reads this when it is loaded and does not follow `torch.set_num_threads`.
os.environ["OPENBLAS_NUM_THREADS"] = str(GIVEN.threads)

import numpy  # noqa: E402
import onnxruntime  # noqa: E402
import torch  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from transformers import BertConfig, BertModel  # noqa: E402

LENGTHS = (32, 128, 256)
BATCHES = (1, 8, 32)
ROUND_TOKENS = 4096
PAUSE_SECONDS = 0.1


class Sentences(torch.nn.Module):
    """Mean over the mask, then normalised, as sentence-transformers does for this model."""

    def __init__(self, directory):
        super().__init__()
        self.model = BertModel(BertConfig.from_pretrained(directory), add_pooling_layer=False)
        weights = load_file(os.path.join(directory, "model.safetensors"))
        self.model.load_state_dict({k: v for k, v in weights.items() if not k.startswith("pooler.")}, strict=False)
        self.eval()

    def forward(self, ids, mask):
        hidden = self.model(input_ids=ids, attention_mask=mask).last_hidden_state
        weight = mask.unsqueeze(-1).to(hidden.dtype)
        mean = (hidden * weight).sum(1) / weight.sum(1).clamp(min=1e-9)
        return torch.nn.functional.normalize(mean, dim=1)


def tokens(texts, length):
    text, at = numpy.arange(texts)[:, None], numpy.arange(length)[None]
    return (1000 + (text * 7919 + at * 104729) % 20000).astype(numpy.int64)


class Ascribe:
    def __init__(self, program, directory, threads):
        command = [program, "--serve", "--model", directory, "--threads", str(threads)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self, texts, length):
        self.process.stdin.write(f"{length} {texts}\n")
        self.process.stdin.flush()
        seconds, first = self.process.stdout.readline().split()
        return float(seconds), float(first)

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Onnx:
    """The exported graph with all of the runtime's own optimisations, fused attention among them where it finds it."""

    def __init__(self, path, threads):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(self, texts, length):
        ids = tokens(texts, length)
        start = time.perf_counter()
        vectors = self.session.run(None, {"ids": ids, "mask": numpy.ones_like(ids)})[0]
        return time.perf_counter() - start, float(vectors[0, 0])


class Torch:
    def __init__(self, model):
        self.model = model

    def run(self, texts, length):
        ids = torch.from_numpy(tokens(texts, length))
        mask = torch.ones_like(ids)
        with torch.inference_mode():
            start = time.perf_counter()
            vectors = self.model(ids, mask)
            return time.perf_counter() - start, float(vectors[0, 0])


def export(model, folder):
    plain = os.path.join(folder, "plain.onnx")
    ids = torch.randint(1000, 20000, (2, 16))
    axes = {0: "texts", 1: "tokens"}
    torch.onnx.export(
        model, (ids, torch.ones_like(ids)), plain, input_names=["ids", "mask"], output_names=["vectors"],
        dynamic_axes={"ids": axes, "mask": axes}, opset_version=14,
    )
    paths = {"onnx": plain}
    try:
        from onnxruntime.transformers import optimizer

        fused = os.path.join(folder, "fused.onnx")
        made = optimizer.optimize_model(plain, model_type="bert", num_heads=12, hidden_size=384, opt_level=1)
        made.save_model_to_file(fused)
        paths["onnx fused"] = fused
    except Exception as error:  # The optimiser needs packages that a small environment may lack.
        print(f"without the transformer optimiser: {error}", file=sys.stderr)
    return paths


def main(given):
    torch.set_num_threads(given.threads)
    model = Sentences(given.model)
    with tempfile.TemporaryDirectory() as folder:
        programs = {"ascribe": Ascribe(given.program, given.model, given.threads)}
        programs |= {name: Onnx(path, given.threads) for name, path in export(model, folder).items()}
        programs["torch"] = Torch(model)
        if given.only:
            programs = {name: programs[name] for name in ["ascribe", *given.only.split(",")]}
        table = []
        if not given.json:
            print_heading(given.threads, list(programs))
        for length in LENGTHS:
            for texts in BATCHES:
                table.append(measure(programs, texts, length, given.rounds))
                if not given.json:
                    print_row(table[-1], list(programs))
    if given.json:
        print(json.dumps(table, indent=1))
    programs["ascribe"].close()


def print_heading(threads, names):
    print(f"{threads} threads, onnxruntime {onnxruntime.__version__}, torch {torch.__version__}; texts a second,")
    print("medians; 'times NAME' is ascribe's rate over that of NAME, median of the rounds")
    columns = names + [f"times {name}" for name in names[1:]]
    print("tokens texts " + " ".join(f"{name:>16}" for name in columns), flush=True)


def print_row(row, names):
    rates = [f"{row[name]:16.1f}" for name in names]
    ratios = [f"{row['times ' + name]:16.2f}" for name in names[1:]]
    print(f"{row['tokens']:6} {row['texts']:5} " + " ".join(rates + ratios), flush=True)


def measure(programs, texts, length, rounds):
    passes = max(1, ROUND_TOKENS // (texts * length))
    times = {name: [] for name in programs}
    for _ in range(rounds):
        first = {}
        for name, program in programs.items():
            time.sleep(PAUSE_SECONDS)
            first[name] = program.run(texts, length)[1]
            times[name].append(sum(program.run(texts, length)[0] for _ in range(passes)))
        for name, value in first.items():
            if abs(value - first["ascribe"]) > 1e-4:
                sys.exit(f"{name} gives {value} where ascribe gives {first['ascribe']}: not the same model")
    row = {"tokens": length, "texts": texts}
    for name, values in times.items():
        row[name] = passes * texts / statistics.median(values)
        row["times " + name] = statistics.median(
            theirs / ours for ours, theirs in zip(times["ascribe"], values)
        )
    del row["times ascribe"]
    return row


if __name__ == "__main__":
    main(GIVEN)
