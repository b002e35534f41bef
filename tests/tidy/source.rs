//! The one scanner of Rust text: comments and strings apart from code.

use std::ops::Range;

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An identifier or keyword; `r#name` without its prefix.
    Word,
    /// `::` or one character of punctuation.
    Mark,
    /// A string, its text as written between the quotes.
    Text,
    /// A number, character or lifetime.
    Other,
}

#[derive(Debug)]
pub(crate) struct Token {
    pub(crate) kind: Kind,
    pub(crate) text: String,
    pub(crate) line: usize,
}

#[derive(Debug)]
pub(crate) struct Comment {
    /// With its slashes, without the end of its line.
    pub(crate) text: String,
    pub(crate) line: usize,
}

/// A function with a body, the lines of its `fn` and of its last brace.
#[derive(Debug)]
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) first_line: usize,
    pub(crate) last_line: usize,
}

/// A scanned Rust file.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) path: String,
    pub(crate) tokens: Vec<Token>,
    pub(crate) comments: Vec<Comment>,
    pub(crate) line_count: usize,
}

impl Source {
    pub(crate) fn scan(path: &str, text: &str) -> Self {
        let mut scanner = Scanner {
            chars: text.chars().collect(),
            at: 0,
            line: 1,
            tokens: Vec::new(),
            comments: Vec::new(),
        };
        while scanner.at < scanner.chars.len() {
            scanner.step();
        }
        Self {
            path: path.to_owned(),
            tokens: scanner.tokens,
            comments: scanner.comments,
            line_count: text.lines().count(),
        }
    }

    /// Text of the token at `index` if it is code, else the empty string.
    pub(crate) fn code(&self, index: usize) -> &str {
        match self.tokens.get(index) {
            Some(token) if matches!(token.kind, Kind::Word | Kind::Mark) => &token.text,
            _ => "",
        }
    }

    /// The word at `index`, or `None`.
    pub(crate) fn word(&self, index: usize) -> Option<&str> {
        self.tokens.get(index).filter(|token| token.kind == Kind::Word).map(|token| token.text.as_str())
    }

    pub(crate) fn line(&self, index: usize) -> usize {
        self.tokens.get(index).or(self.tokens.last()).map_or(1, |token| token.line)
    }

    /// Index of the bracket that closes the one at `open`; the last token if none does.
    pub(crate) fn closing(&self, open: usize) -> usize {
        let mut depth = 0_usize;
        for index in open..self.tokens.len() {
            match self.code(index) {
                "(" | "[" | "{" => depth += 1,
                ")" | "]" | "}" => depth = depth.saturating_sub(1),
                _ => continue,
            }
            if depth == 0 {
                return index;
            }
        }
        self.tokens.len().saturating_sub(1)
    }

    /// From `start`, the first of `marks` outside brackets; `None` at the end of the text.
    pub(crate) fn first_outside(&self, start: usize, marks: &[&str]) -> Option<usize> {
        let mut index = start;
        while index < self.tokens.len() {
            let code = self.code(index);
            if marks.contains(&code) {
                return Some(index);
            }
            index = if matches!(code, "(" | "[" | "{") { self.closing(index) + 1 } else { index + 1 };
        }
        None
    }

    /// If an attribute begins at `index`, the tokens inside its brackets.
    pub(crate) fn attribute(&self, index: usize) -> Option<Range<usize>> {
        if self.code(index) != "#" {
            return None;
        }
        let open = if self.code(index + 1) == "!" { index + 2 } else { index + 1 };
        (self.code(open) == "[").then(|| open + 1..self.closing(open))
    }

    /// Token ranges that only a test build has: items under `#[cfg(test)]` or `#[test]`.
    pub(crate) fn test_ranges(&self) -> Vec<Range<usize>> {
        let mut ranges = Vec::new();
        for index in 0..self.tokens.len() {
            let Some(inside) = self.attribute(index) else { continue };
            let words: Vec<&str> = inside.clone().filter_map(|at| self.word(at)).collect();
            let of_test = match words.first() {
                Some(&"cfg") => words.contains(&"test") && !words.contains(&"not"),
                Some(&"test") => words.len() == 1,
                _ => false,
            };
            if of_test {
                let mut item = inside.end + 1;
                while let Some(next) = self.attribute(item) {
                    item = next.end + 1;
                }
                let end = match self.first_outside(item, &["{", ";"]) {
                    Some(open) if self.code(open) == "{" => self.closing(open),
                    Some(end) => end,
                    None => self.tokens.len(),
                };
                ranges.push(index..end + 1);
            }
        }
        ranges
    }

    /// All functions with a body, also nested ones.
    pub(crate) fn functions(&self) -> Vec<Function> {
        let mut functions = Vec::new();
        for index in 0..self.tokens.len() {
            // Without a name it is the type of a function pointer.
            let (Some("fn"), Some(name)) = (self.word(index), self.word(index + 1)) else { continue };
            let Some(open) = self.first_outside(index, &["{", ";"]) else { continue };
            if self.code(open) == "{" {
                functions.push(Function {
                    name: name.to_owned(),
                    first_line: self.line(index),
                    last_line: self.line(self.closing(open)),
                });
            }
        }
        functions
    }
}

struct Scanner {
    chars: Vec<char>,
    at: usize,
    line: usize,
    tokens: Vec<Token>,
    comments: Vec<Comment>,
}

impl Scanner {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    fn next(&mut self) -> Option<char> {
        let next = self.peek(0)?;
        self.at += 1;
        self.line += usize::from(next == '\n');
        Some(next)
    }

    fn push(&mut self, kind: Kind, text: impl Into<String>, line: usize) {
        self.tokens.push(Token { kind, text: text.into(), line });
    }

    fn step(&mut self) {
        let line = self.line;
        let Some(first) = self.peek(0) else { return };
        match (first, self.peek(1)) {
            ('/', Some('/')) => self.line_comment(),
            ('/', Some('*')) => self.block_comment(),
            ('"', _) => self.string(0, false),
            ('\'', _) => self.quote(),
            (':', Some(':')) => {
                self.at += 2;
                self.push(Kind::Mark, "::", line);
            }
            _ if first.is_whitespace() => {
                self.next();
            }
            _ if first.is_ascii_digit() => self.number(),
            _ if is_word(first) => self.word(),
            _ => {
                self.next();
                self.push(Kind::Mark, first, line);
            }
        }
    }

    fn line_comment(&mut self) {
        let line = self.line;
        let start = self.at;
        while self.peek(0).is_some_and(|next| next != '\n') {
            self.at += 1;
        }
        self.comments.push(Comment { text: self.chars[start..self.at].iter().collect(), line });
    }

    fn block_comment(&mut self) {
        let mut depth = 0_usize;
        let mut text = String::new();
        let mut line = self.line;
        loop {
            match (self.peek(0), self.peek(1)) {
                (Some('/'), Some('*')) => depth += 1,
                (Some('*'), Some('/')) => depth -= 1,
                (Some('\n'), _) => {
                    self.comments.push(Comment { text: std::mem::take(&mut text), line });
                    self.next();
                    line = self.line;
                    continue;
                }
                (Some(other), _) => {
                    text.push(other);
                    self.at += 1;
                    continue;
                }
                (None, _) => depth = 0,
            }
            self.at += 2;
            if depth == 0 {
                self.comments.push(Comment { text, line });
                return;
            }
        }
    }

    /// A string whose quote (behind `hashes` hashes, if raw) comes next.
    fn string(&mut self, hashes: usize, raw: bool) {
        let line = self.line;
        self.at += hashes + 1;
        let mut text = String::new();
        while let Some(next) = self.next() {
            if next == '\\' && !raw {
                text.push(next);
                text.extend(self.next());
                continue;
            }
            if next == '"' && (0..hashes).all(|ahead| self.peek(ahead) == Some('#')) {
                self.at += hashes;
                break;
            }
            text.push(next);
        }
        self.push(Kind::Text, text, line);
    }

    /// A character or a lifetime.
    fn quote(&mut self) {
        let line = self.line;
        let is_char = self.peek(1) == Some('\\') || self.peek(2) == Some('\'');
        self.at += 1;
        if !is_char {
            while self.peek(0).is_some_and(is_word) {
                self.at += 1;
            }
        } else {
            while let Some(next) = self.next() {
                match next {
                    '\\' => {
                        self.next();
                    }
                    '\'' => break,
                    _ => {}
                }
            }
        }
        self.push(Kind::Other, "'", line);
    }

    fn number(&mut self) {
        let line = self.line;
        while self.peek(0).is_some_and(is_word)
            || (self.peek(0) == Some('.') && self.peek(1).is_some_and(|next| next.is_ascii_digit()))
        {
            self.at += 1;
        }
        self.push(Kind::Other, "0", line);
    }

    fn word(&mut self) {
        let line = self.line;
        let start = self.at;
        while self.peek(0).is_some_and(is_word) {
            self.at += 1;
        }
        let text: String = self.chars[start..self.at].iter().collect();
        let hashes = (0..).take_while(|&ahead| self.peek(ahead) == Some('#')).count();
        let raw = matches!(text.as_str(), "r" | "br" | "cr");
        if self.peek(hashes) == Some('"') && (raw || (hashes == 0 && matches!(text.as_str(), "b" | "c"))) {
            self.string(hashes, raw);
        } else if text == "b" && self.peek(0) == Some('\'') {
            self.quote();
        } else if text == "r" && hashes == 1 {
            self.at += 1;
            self.word();
        } else {
            self.push(Kind::Word, text, line);
        }
    }
}

fn is_word(next: char) -> bool {
    next == '_' || next.is_alphanumeric()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> String {
        let source = Source::scan("a.rs", text);
        (0..source.tokens.len())
            .map(|at| source.code(at))
            .filter(|code| !code.is_empty())
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn comments_and_strings_are_no_code() {
        assert_eq!(code("a /* b /* c */ d */ e // f\n g"), "a e g");
        assert_eq!(code(r##"a("b \" c", r#"d " e"#, b"f", br"g\", c"h") i"##), "a ( , , , , ) i");
        assert_eq!(code(r"a('b', '\'', b'c', '\u{1F600}', '/') d"), "a ( , , , , ) d");
    }

    #[test]
    fn lifetimes_do_not_swallow_code() {
        assert_eq!(
            code("fn f<'a>(x: &'a str, y: &'static T) -> char { '\"' } z"),
            "fn f < > ( x : & str , y : & T ) - > char { } z"
        );
        assert_eq!(code("0..n.len() 1.5e3 r#type::x"), ". . n . len ( ) type :: x");
    }

    #[test]
    fn lines_are_counted_through_strings_and_comments() {
        let source = Source::scan("a.rs", "\"x\ny\" /* a\nb */ here // last\n");
        let here = source.tokens.iter().find(|token| token.text == "here");
        assert_eq!(here.map(|token| token.line), Some(3));
        let lines: Vec<_> =
            source.comments.iter().map(|comment| (comment.line, comment.text.trim())).collect();
        assert_eq!(lines, [(2, "a"), (3, "b"), (3, "// last")]);
        assert_eq!(source.line_count, 3);
    }

    #[test]
    fn functions_end_at_their_own_brace() {
        let text = "fn a(f: fn(u8) -> [u8; 3]) {\n  let _ = \"}\";\n  fn b() {}\n}\ntrait T { fn c(); }\nconst fn d() {}";
        let found: Vec<_> = Source::scan("a.rs", text)
            .functions()
            .into_iter()
            .map(|f| (f.name, f.first_line, f.last_line))
            .collect();
        assert_eq!(found, [("a".to_owned(), 1, 4), ("b".to_owned(), 3, 3), ("d".to_owned(), 6, 6)]);
    }

    #[test]
    fn test_code_is_known() {
        let source = Source::scan(
            "a.rs",
            "fn a() {}\n#[cfg(test)]\n#[allow(x)]\nmod tests { fn b() {} }\n#[cfg(not(test))] fn c() {}\n#[test] fn d() {}",
        );
        let named: Vec<_> = source
            .test_ranges()
            .into_iter()
            .map(|range| range.filter_map(|at| source.word(at)).collect::<Vec<_>>().join(" "))
            .collect();
        assert_eq!(named, ["cfg test allow x mod tests fn b", "test fn d"]);
    }
}
