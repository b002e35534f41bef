"""Makes tests/fixtures/bert: 200 varied texts, and the tokens and embeddings that PyTorch gives for them.

The procedure is that of sentence-transformers: at most as many tokens as `sentence_bert_config.json` says, the mean
over the tokens of the last layer, divided by its norm.

    python tools/reference/bert_texts.py DIRECTORY_OF_ALL_MINILM_L6_V2 tests/fixtures/bert

Needs torch, transformers and safetensors; made with PyTorch 1.13 and transformers 4.30.
"""

import json
import pathlib
import sys

import torch
from safetensors.torch import save_file
from transformers import AutoTokenizer, BertModel

TEXTS_COUNT = 200

PLAIN = """
A lithograph of a swimming pool, printed in six colours.
The committee met on Tuesday and adjourned without a vote.
How do I reset the password of an account that I no longer own?
Water boils at a lower temperature on a mountain than at the sea.
She sells sea shells; the shells she sells are surely seashells.
Question: what is the capital of Mongolia?
Answer: the capital of Mongolia is Ulaanbaatar.
Photosynthesis turns light, water and carbon dioxide into sugar and oxygen.
He didn't say it wasn't his; he said it might not've been theirs.
The quick brown fox jumps over the lazy dog.
Buffalo buffalo Buffalo buffalo buffalo buffalo Buffalo buffalo.
An antidisestablishmentarianist walked into a floccinaucinihilipilification.
no capital letters and no full stop
ALL CAPITAL LETTERS AND NO FULL STOP
MiXeD CaSe iS hArDeR tO rEaD
Please translate the following sentence into French, then into German.
The movie was not bad at all; in fact, it was rather good.
The movie was not good at all; in fact, it was rather bad.
In 1969, two men walked on the Moon while a third orbited it.
Chapter IV: in which nothing happens, twice.
To be, or not to be -- that is the question...
My e-mail is not here, but my postcode is SW1A 1AA.
The patient was given 2.5 mg twice a day (b.i.d.) for 14 days.
"Quotes", 'single quotes', “curly quotes” and «guillemets».
Ellipsis… and dashes – short — long ― longer.
""".strip().split("\n")

ACCENTS = """
Zwei Häuser in Köln stehen über dem Fluß
El niño comió piñas y jalapeños en la montaña
Une élève très âgée a mangé des crêpes à Noël, où ça ?
ÀÉÎÕÜ àéîõü ÇÑŠŽ çñšž ŁØÅÆ łøåæ
Příliš žluťoučký kůň úpěl ďábelské ódy
Zażółć gęślą jaźń
İstanbul ve IĞDIR, ışık ve iyi
Ægir þórr ðrengr ſtraße
Tiếng Việt có nhiều dấu thanh
e\u0301 e\u0300 a\u030a o\u0308 n\u0303
Z\u0351\u036b\u0343a\u0329\u0356l\u034f\u032dg\u0321o\u0322
Ελληνικά: η γρήγορη αλεπού
Съешь ещё этих мягких французских булок, да выпей чаю
Україна та її міста
Հայերեն գրություն
ქართული ენა
""".strip().split("\n")

OTHER_SCRIPTS = """
東京の夜景を描いた版画
北京大学的学生在图书馆里看书
한국어 문장은 띄어쓰기를 합니다
混ぜた text の中に English がある
「引用」、句読点。そして！？
𠮷野家で𩸽を食べる
مرحبا بالعالم، كيف حالك اليوم؟
السَّلَامُ عَلَيْكُمْ
שלום עולם, מה שלומך?
שָׁלוֹם
नमस्ते दुनिया, आप कैसे हैं?
হ্যালো বিশ্ব
வணக்கம் உலகம்
สวัสดีชาวโลก วันนี้อากาศดี
မင်္ဂလာပါ
ሰላም ለዓለም
ᏣᎳᎩ ᎦᏬᏂᎯᏍᏗ
🙂
😀😃😄 three faces
family: 👨‍👩‍👧‍👦 flag: 🇨🇭 skin: 👍🏽
I ❤️ NY ✨
→ ← ↑ ↓ ⇒ ∀x∈ℝ: x² ≥ 0 ∧ √2 ∉ ℚ
½ ⅓ ① Ⅳ ㎏ ﬁ ﬂ ™ ® ©
𝓗𝓮𝓵𝓵𝓸 𝕎𝕠𝕣𝕝𝕕 𝟙𝟚𝟛
ＦＵＬＬ　ＷＩＤＴＨ　１２３
¥€£$¢ ₹₽₿
""".strip().split("\n")

CODE = [
    "fn main() { println!(\"{:?}\", (0..10).map(|x| x * x).collect::<Vec<_>>()); }",
    "def f(x: int) -> int:\n    return x ** 2 if x > 0 else -x\n",
    "for (int i = 0; i < n; ++i) { sum += a[i] * b[i]; }",
    "SELECT name, COUNT(*) FROM rows WHERE year >= 1990 GROUP BY name ORDER BY 2 DESC LIMIT 10;",
    "const add = (a, b) => a + b; // adds\nexport default add;",
    "<div class=\"card\"><a href='#top'>Top</a>&nbsp;</div>",
    "#!/bin/sh\nset -eu\nfor f in *.txt; do wc -l \"$f\" | awk '{print $1}'; done",
    "main :: IO ()\nmain = mapM_ print . takeWhile (< 100) $ filter odd [1 ..]",
    "\\begin{equation} e^{i\\pi} + 1 = 0 \\end{equation}",
    "git rebase -i HEAD~3 && git push --force-with-lease origin feature/x_y-z",
    "{\"id\": 17, \"tags\": [\"a\", \"b\"], \"nested\": {\"null\": null, \"x\": -1.5e-3}}",
    "[1,2,3,[4,[5,[6]]],{\"k\":\"v\"}]",
    "key: value\nlist:\n  - one\n  - two\n# comment\n",
    "name,year,price\n\"Smith, J.\",1994,12.50\n\"O\"\"Hara\",2001,3\n",
    "https://example.org/path/to/page.html?query=1&other=%20x#fragment",
    "ftp://user@host.example:2121/~file_name-1.tar.gz",
    "someone.name+tag@mail.example.com",
    "C:\\Windows\\System32\\drivers\\etc\\hosts",
    "0xDEADBEEF 0b1010 0o777 1_000_000 3.14159e-10",
    "192.168.0.1 2001:0db8:85a3::8a2e:0370:7334 00:1A:2B:3C:4D:5E",
    "aGVsbG8gd29ybGQsIHRoaXMgaXMgYmFzZTY0",
    "[CLS] tokens [SEP] written [MASK] in the text [PAD] [UNK]",
    "[cls] ##ing ##s [sep]",
]

NUMBERS = [
    "0", "1", "42", "-7", "3.14", "1,234,567.89", "1e100", "99%", "12:34:56", "2024-02-29", "+1 (555) 010-9999",
    "1/2 + 1/3 = 5/6", "0123456789" * 12, "٠١٢٣٤٥٦٧٨٩", "一二三四五六七八九十",
]

SHORT = ["a", "Z", "é", "ß", "?", "!!!", "...", "字", "я", "ا", "ok", "OK.", "I", "the", "##"]

CONTROL = [
    "", " ", "     ", "\n", "\t\t", "\r\n\r\n", "\u00a0", "\u3000", "\u200b", "\u200d", "\ufeff",
    "a\u0000b", "a\u0007b c\u001bd", "tab\tseparated\tvalues", "line one\nline two\r\nline three\rline four",
    "a\u000bb\u000cc", "soft\u00adhyphen", "zero\u200bwidth\u200bspaces", "left\u200eto\u202eright",
    "replacement \ufffd character", "private \ue000 use", "\u0301", "\U000e0001 tag", "   leading and trailing   ",
    "many     spaces          between", "\u2028line\u2029paragraph", "next\u0085line",
]


def long_texts():
    """Texts around and far beyond the greatest number of tokens."""
    sentence = "The archive of the museum keeps prints, drawings and letters from three centuries. "
    texts = [sentence * count for count in (2, 5, 10, 16, 17, 18, 40, 80)]
    texts += ["word " * count for count in (250, 253, 254, 255, 256, 510, 600)]
    texts += ["字" * 254, "字" * 300, "x" * 99, "x" * 100, "x" * 101, "é" * 100, "ab" * 60, "!" * 300]
    texts += ["unbelievably " * 90, "a b c d e f g h " * 50, "🙂" * 120, "\n\n" + sentence * 20 + " " * 3000 + "end"]
    texts += [" " * 5000 + "after many spaces", "Δ" * 40 + " " + "न" * 40]
    return texts


SUBJECTS = ["A painter", "The court", "Our neighbour", "This model", "Every pupil", "Nobody", "The old ship", "Rain"]
VERBS = ["forgot", "described", "has never liked", "will measure", "might repair", "sold"]
OBJECTS = ["the northern harbour", "a bowl of plums", "seven proofs of one theorem", "her brother's violin",
           "the second law of thermodynamics", "an unsigned contract", "yesterday's weather"]


def all_texts():
    texts = PLAIN + ACCENTS + OTHER_SCRIPTS + CODE + NUMBERS + SHORT + CONTROL + long_texts()
    number = 0
    while len(texts) < TEXTS_COUNT:
        subject, verb = SUBJECTS[number % len(SUBJECTS)], VERBS[number * 5 % len(VERBS)]
        texts.append(f"{subject} {verb} {OBJECTS[number * 3 % len(OBJECTS)]}.")
        number += 1
    assert len(texts) == TEXTS_COUNT, len(texts)
    return texts


def main():
    model_folder, folder = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    texts = all_texts()
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    model = BertModel.from_pretrained(model_folder).eval()
    length = json.loads((model_folder / "sentence_bert_config.json").read_text())["max_seq_length"]
    tokens, embeddings = [], []
    with torch.no_grad():
        for text in texts:
            batch = tokenizer(text, truncation=True, max_length=length, padding=False, return_tensors="pt")
            hidden = model(**batch).last_hidden_state
            embeddings.append(torch.nn.functional.normalize(hidden.mean(1), dim=1)[0])
            tokens.append(batch["input_ids"][0].to(torch.int16))
    reference = {
        "embeddings": torch.stack(embeddings),
        "token_counts": torch.tensor([len(ids) for ids in tokens], dtype=torch.int16),
        "tokens": torch.cat(tokens),
    }
    save_file(reference, folder / "reference.safetensors")
    (folder / "reference.safetensors").chmod(0o644)
    (folder / "texts.json").write_text(json.dumps(texts, indent=0, ensure_ascii=True) + "\n")


main()
