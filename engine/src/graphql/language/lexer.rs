//! Text to tokens ("Lexical Tokens").

use std::borrow::Cow;

use async_graphql::Pos;

use super::parser::ParseError;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token<'t> {
    End,
    /// One of `! $ & ( ) : = @ [ ] { | }`.
    Punctuator(char),
    Spread,
    Name(&'t str),
    Int(&'t str),
    Float(&'t str),
    String(Cow<'t, str>),
}

impl std::fmt::Display for Token<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::End => f.write_str("the end of the document"),
            Self::Punctuator(punctuator) => write!(f, "\"{punctuator}\""),
            Self::Spread => f.write_str("\"...\""),
            Self::Name(name) => write!(f, "\"{name}\""),
            Self::Int(number) | Self::Float(number) => f.write_str(number),
            // What it says is the client's.
            Self::String(_) => f.write_str("a string"),
        }
    }
}

/// Reads one token after the other.
pub(super) struct Lexer<'t> {
    text: &'t str,
    at: usize,
    line: usize,
    line_start: usize,
    /// Bytes of this line that continue a character: columns count characters.
    continued: usize,
}

impl<'t> Lexer<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        let mut lexer = Self {
            text,
            at: 0,
            line: 1,
            line_start: 0,
            continued: 0,
        };
        if text.starts_with('\u{feff}') {
            lexer.at = 3;
            lexer.line_start = 3;
        }
        lexer
    }

    fn pos(&self) -> Pos {
        Pos {
            line: self.line,
            column: 1 + self.at - self.line_start - self.continued,
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    /// Goes on by one byte, which must not be a line's end.
    fn step(&mut self, byte: u8) {
        self.at += 1;
        self.continued += usize::from(byte & 0xC0 == 0x80);
    }

    /// Goes on past a line's end.
    fn next_line(&mut self) {
        self.at += match self.rest().starts_with("\r\n") {
            true => 2,
            false => 1,
        };
        self.line += 1;
        self.line_start = self.at;
        self.continued = 0;
    }

    /// The next token and where it begins.
    ///
    /// # Errors
    /// When what stands there is none.
    pub(super) fn next(&mut self) -> Result<(Pos, Token<'t>), ParseError> {
        self.skip_ignored();
        let pos = self.pos();
        let start = self.at;
        let Some(byte) = self.peek() else {
            return Ok((pos, Token::End));
        };
        let token = match byte {
            b'!' | b'$' | b'&' | b'(' | b')' | b':' | b'=' | b'@' | b'[' | b']' | b'{' | b'|'
            | b'}' => {
                self.at += 1;
                Token::Punctuator(byte.into())
            }
            b'.' if self.rest().starts_with("...") => {
                self.at += 3;
                Token::Spread
            }
            b'a'..=b'z' | b'A'..=b'Z' | b'_' => {
                while self.peek().is_some_and(continues_name) {
                    self.at += 1;
                }
                Token::Name(&self.text[start..self.at])
            }
            b'-' | b'0'..=b'9' => self.number(start)?,
            b'"' if self.rest().starts_with("\"\"\"") => Token::String(self.block_string()?),
            b'"' => Token::String(self.string()?),
            _ => {
                let found = self.rest().chars().next().unwrap_or_default();
                let message = format!("unexpected character {found:?}");
                return Err(ParseError::syntax(message, pos));
            }
        };
        Ok((pos, token))
    }

    fn skip_ignored(&mut self) {
        while let Some(byte) = self.peek() {
            match byte {
                b' ' | b'\t' | b',' => self.at += 1,
                b'\n' | b'\r' => self.next_line(),
                b'#' => {
                    while let Some(byte) = self.peek().filter(|byte| !is_line_end(*byte)) {
                        self.step(byte);
                    }
                }
                // A byte order mark is ignored wherever it stands.
                0xEF if self.rest().starts_with('\u{feff}') => {
                    self.at += 3;
                    self.continued += 2;
                }
                _ => break,
            }
        }
    }

    fn number(&mut self, start: usize) -> Result<Token<'t>, ParseError> {
        let mut float = false;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            _ => self.digits()?,
        }
        if self.peek() == Some(b'.') {
            float = true;
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            float = true;
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        let ended = self
            .peek()
            .is_none_or(|byte| byte != b'.' && !continues_name(byte));
        if !ended {
            return Err(ParseError::syntax("a number goes on wrongly", self.pos()));
        }
        let text = &self.text[start..self.at];
        Ok(match float {
            true => Token::Float(text),
            false => Token::Int(text),
        })
    }

    fn digits(&mut self) -> Result<(), ParseError> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        match self.at > start {
            true => Ok(()),
            false => Err(ParseError::syntax("a number lacks a digit", self.pos())),
        }
    }

    fn string(&mut self) -> Result<Cow<'t, str>, ParseError> {
        let begins = self.pos();
        self.at += 1;
        let mut start = self.at;
        let mut value = String::new();
        loop {
            match self.peek() {
                Some(b'"') => {
                    let last = &self.text[start..self.at];
                    self.at += 1;
                    return Ok(match value.is_empty() {
                        true => Cow::Borrowed(last),
                        false => Cow::Owned(value + last),
                    });
                }
                Some(b'\\') => {
                    value += &self.text[start..self.at];
                    value.push(self.escape()?);
                    start = self.at;
                }
                None | Some(b'\n' | b'\r') => {
                    return Err(ParseError::syntax("a string does not end", begins));
                }
                Some(byte) => self.step(byte),
            }
        }
    }

    /// What an escape stands for: `\n`, `\u00e9`, `\u{1F600}`, or two of `\uD83D\uDE00`.
    fn escape(&mut self) -> Result<char, ParseError> {
        let pos = self.pos();
        let wrong = || ParseError::syntax("a string has an escape that means no character", pos);
        self.at += 1;
        let escaped = self.peek().ok_or_else(wrong)?;
        self.at += usize::from(escaped.is_ascii());
        let simple = match escaped {
            b'"' | b'\\' | b'/' => escaped.into(),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let first = self.unicode().ok_or_else(wrong)?;
                let leads = (0xD800..0xDC00).contains(&first);
                if !leads || !self.rest().starts_with("\\u") {
                    return char::from_u32(first).ok_or_else(wrong);
                }
                self.at += 2;
                let second = self.unicode().ok_or_else(wrong)?;
                if !(0xDC00..0xE000).contains(&second) {
                    return Err(wrong());
                }
                let pair = 0x1_0000 + ((first - 0xD800) << 10) + (second - 0xDC00);
                return char::from_u32(pair).ok_or_else(wrong);
            }
            _ => return Err(wrong()),
        };
        Ok(simple)
    }

    /// The number behind `\u`. Only the form without braces comes in pairs.
    fn unicode(&mut self) -> Option<u32> {
        let rest = self.rest();
        let braced = rest.strip_prefix('{');
        let (digits, length) = match braced {
            Some(braced) => {
                let end = braced.find('}')?;
                (braced.get(..end)?, end + 2)
            }
            None => (rest.get(..4)?, 4),
        };
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        self.at += length;
        // `\u{0000000041}` is as good as `\u{41}`.
        let value = match digits.trim_start_matches('0') {
            "" => 0,
            digits => u32::from_str_radix(digits, 16).ok()?,
        };
        (braced.is_none() || char::from_u32(value).is_some()).then_some(value)
    }

    fn block_string(&mut self) -> Result<Cow<'t, str>, ParseError> {
        let begins = self.pos();
        self.at += 3;
        let mut lines = vec![String::new()];
        loop {
            let rest = self.rest();
            let line = lines.last_mut();
            if rest.starts_with("\"\"\"") {
                self.at += 3;
                return Ok(Cow::Owned(dedented(&lines)));
            }
            if rest.starts_with("\\\"\"\"") {
                line.into_iter().for_each(|line| line.push_str("\"\"\""));
                self.at += 4;
                continue;
            }
            match rest.chars().next() {
                None => return Err(ParseError::syntax("a block string does not end", begins)),
                Some('\n' | '\r') => {
                    self.next_line();
                    lines.push(String::new());
                }
                Some(char) => {
                    line.into_iter().for_each(|line| line.push(char));
                    self.at += char.len_utf8();
                    self.continued += char.len_utf8() - 1;
                }
            }
        }
    }
}

/// The lines of a block string without their common indent, and without the blank ones at both ends
/// ("BlockStringValue()").
fn dedented(lines: &[String]) -> String {
    let indent_of = |line: &str| line.len() - line.trim_start_matches([' ', '\t']).len();
    let is_blank = |line: &String| indent_of(line) == line.len();
    let mut text = lines.iter().enumerate().filter(|(_, line)| !is_blank(line));
    let common = text
        .clone()
        .filter(|(n, _)| *n > 0)
        .map(|(_, line)| indent_of(line))
        .min()
        .unwrap_or_default();
    let (Some((first, _)), Some((last, _))) = (text.clone().next(), text.next_back()) else {
        return String::new();
    };
    let dedented = lines.iter().enumerate().map(|(n, line)| match n {
        0 => line,
        _ => line.get(common..).unwrap_or_default(),
    });
    let kept: Vec<_> = dedented.skip(first).take(last + 1 - first).collect();
    kept.join("\n")
}

fn continues_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn is_line_end(byte: u8) -> bool {
    matches!(byte, b'\n' | b'\r')
}
