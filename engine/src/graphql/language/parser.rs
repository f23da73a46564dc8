//! Tokens to a tree, by recursive descent.
//!
//! The parser is where documents are refused that are small to send and endless to read: what nests
//! is read by recursion, here and in everything behind, and some thousand brackets inside one
//! another would overflow a worker's stack, which ends the process.

use async_graphql::{Name, Pos, parser::types::OperationType};

use super::{
    ast::{
        Argument, Directive, Document, Field, Fragment, Inline, Named, Operation, Selection,
        SelectionSet, Spread, TypeName, Value, ValueKind, VariableDefinition,
    },
    lexer::{Lexer, Token},
};

/// Bytes of a document. In memory, a byte may become a hundred.
const MAX_BYTES: usize = 64 * 1024;
/// Brackets inside one another, of any kind.
const MAX_DEPTH: usize = 64;
/// Names, numbers, strings and punctuators.
const MAX_TOKENS: usize = 15_000;
/// Operations and fragments together.
const MAX_DEFINITIONS: usize = 200;

/// Why a text is no document, or none that is read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ParseError {
    #[error("syntax error: {message}")]
    Syntax { message: String, pos: Pos },
    #[error("the document has {0} bytes, {MAX_BYTES} are allowed")]
    Bytes(usize),
    #[error("the document is too deep: {MAX_DEPTH} brackets inside one another are allowed")]
    Depth(Pos),
    #[error("the document has more than {MAX_TOKENS} tokens")]
    Tokens(Pos),
    #[error("the document has more than {MAX_DEFINITIONS} definitions")]
    Definitions(Pos),
}

impl ParseError {
    pub(super) fn syntax(message: impl Into<String>, pos: Pos) -> Self {
        let message = message.into();
        Self::Syntax { message, pos }
    }

    /// Where it was noticed.
    pub(crate) fn pos(&self) -> Option<Pos> {
        match self {
            Self::Bytes(_) => None,
            Self::Syntax { pos, .. }
            | Self::Depth(pos)
            | Self::Tokens(pos)
            | Self::Definitions(pos) => Some(*pos),
        }
    }
}

type Parsed<T> = Result<T, ParseError>;

/// Reads `text` as an executable document ("Document").
///
/// # Errors
/// [`ParseError`], the first one.
pub(crate) fn parse(text: &str) -> Parsed<Document> {
    if text.len() > MAX_BYTES {
        return Err(ParseError::Bytes(text.len()));
    }
    let mut lexer = Lexer::new(text);
    let (pos, token) = lexer.next()?;
    let mut parser = Parser {
        lexer,
        token,
        pos,
        tokens: 1,
        depth: 0,
    };
    parser.document()
}

struct Parser<'t> {
    lexer: Lexer<'t>,
    /// The token that is not yet taken, and where it stands.
    token: Token<'t>,
    pos: Pos,
    tokens: usize,
    depth: usize,
}

impl<'t> Parser<'t> {
    fn document(&mut self) -> Parsed<Document> {
        let (mut operations, mut fragments) = (Vec::new(), Vec::new());
        loop {
            if operations.len() + fragments.len() == MAX_DEFINITIONS {
                return Err(ParseError::Definitions(self.pos));
            }
            let described = self.description()?;
            match self.token {
                Token::Punctuator('{') if described => {
                    return self.unexpected("an operation or a fragment behind its description");
                }
                Token::Name("fragment") => fragments.push(self.fragment()?),
                _ => operations.push(self.operation()?),
            }
            if self.token == Token::End {
                return Ok(Document::new(operations, fragments));
            }
        }
    }

    /// Takes the token.
    fn take(&mut self) -> Parsed<Token<'t>> {
        self.tokens += 1;
        if self.tokens > MAX_TOKENS {
            return Err(ParseError::Tokens(self.pos));
        }
        let (pos, next) = self.lexer.next()?;
        self.pos = pos;
        Ok(std::mem::replace(&mut self.token, next))
    }

    /// Takes the description of what follows, if there is one ("Descriptions" of September 2025).
    fn description(&mut self) -> Parsed<bool> {
        let described = matches!(self.token, Token::String(_));
        if described {
            self.take()?;
        }
        Ok(described)
    }

    fn unexpected<T>(&self, wanted: &str) -> Parsed<T> {
        let message = format!("expected {wanted}, found {}", self.token);
        Err(ParseError::syntax(message, self.pos))
    }

    fn is(&self, punctuator: char) -> bool {
        self.token == Token::Punctuator(punctuator)
    }

    /// Takes `punctuator` if it is there.
    fn takes(&mut self, punctuator: char) -> Parsed<bool> {
        let is = self.is(punctuator);
        if is {
            self.take()?;
        }
        Ok(is)
    }

    fn expect(&mut self, punctuator: char) -> Parsed<()> {
        match self.takes(punctuator)? {
            true => Ok(()),
            false => self.unexpected(&format!("\"{punctuator}\"")),
        }
    }

    /// All that `each` reads between `open` and `close`.
    fn between<T>(
        &mut self,
        [open, close]: [char; 2],
        each: impl Fn(&mut Self) -> Parsed<T>,
    ) -> Parsed<Vec<T>> {
        if self.depth == MAX_DEPTH {
            return Err(ParseError::Depth(self.pos));
        }
        self.expect(open)?;
        self.depth += 1;
        let mut all = Vec::new();
        while !self.takes(close)? {
            all.push(each(self)?);
        }
        self.depth -= 1;
        Ok(all)
    }

    /// The same, of which there must be one.
    fn some<T>(
        &mut self,
        brackets: [char; 2],
        what: &str,
        each: impl Fn(&mut Self) -> Parsed<T>,
    ) -> Parsed<Vec<T>> {
        let pos = self.pos;
        let all = self.between(brackets, each)?;
        match all.is_empty() {
            true => {
                let [open, close] = brackets;
                let message = format!("expected {what} between \"{open}\" and \"{close}\"");
                Err(ParseError::syntax(message, pos))
            }
            false => Ok(all),
        }
    }

    fn name(&mut self) -> Parsed<Named> {
        let pos = self.pos;
        let Token::Name(name) = self.token else {
            return self.unexpected("a name");
        };
        self.take()?;
        let node = Name::new(name);
        Ok(Named { pos, node })
    }

    fn operation(&mut self) -> Parsed<Operation> {
        let pos = self.pos;
        let kind = match self.token {
            Token::Punctuator('{') => {
                return Ok(Operation {
                    pos,
                    kind: OperationType::Query,
                    name: None,
                    variables: Vec::new(),
                    directives: Vec::new(),
                    selections: self.selection_set()?,
                });
            }
            Token::Name("query") => OperationType::Query,
            Token::Name("mutation") => OperationType::Mutation,
            Token::Name("subscription") => OperationType::Subscription,
            _ => return self.unexpected("an operation or a fragment"),
        };
        self.take()?;
        let name = match self.token {
            Token::Name(_) => Some(self.name()?),
            _ => None,
        };
        let variables = match self.is('(') {
            true => self.some(['(', ')'], "a variable", Self::variable_definition)?,
            false => Vec::new(),
        };
        Ok(Operation {
            pos,
            kind,
            name,
            variables,
            directives: self.directives()?,
            selections: self.selection_set()?,
        })
    }

    fn variable_definition(&mut self) -> Parsed<VariableDefinition> {
        self.description()?;
        let pos = self.pos;
        self.expect('$')?;
        let node = self.name()?.node;
        self.expect(':')?;
        let ty = self.type_name()?;
        let default = match self.takes('=')? {
            true => Some(self.value(true)?),
            false => None,
        };
        Ok(VariableDefinition {
            name: Named { pos, node },
            ty,
            default,
            directives: self.directives_of(true)?,
        })
    }

    fn type_name(&mut self) -> Parsed<TypeName> {
        let ty = match self.is('[') {
            true => {
                if self.depth == MAX_DEPTH {
                    return Err(ParseError::Depth(self.pos));
                }
                self.take()?;
                self.depth += 1;
                let inner = self.type_name()?;
                self.expect(']')?;
                self.depth -= 1;
                TypeName::List(Box::new(inner))
            }
            false => TypeName::Named(self.name()?),
        };
        Ok(match self.takes('!')? {
            true => TypeName::NonNull(Box::new(ty)),
            false => ty,
        })
    }

    fn fragment(&mut self) -> Parsed<Fragment> {
        self.take()?;
        if self.token == Token::Name("on") {
            return self.unexpected("a fragment's name");
        }
        let name = self.name()?;
        if self.token != Token::Name("on") {
            return self.unexpected("\"on\"");
        }
        self.take()?;
        Ok(Fragment {
            name,
            on: self.name()?,
            directives: self.directives()?,
            selections: self.selection_set()?,
        })
    }

    fn selection_set(&mut self) -> Parsed<SelectionSet> {
        let pos = self.pos;
        let items = self.some(['{', '}'], "a field", Self::selection)?;
        Ok(SelectionSet { pos, items })
    }

    fn selection(&mut self) -> Parsed<Selection> {
        let pos = self.pos;
        if self.token != Token::Spread {
            return self.field().map(Selection::Field);
        }
        self.take()?;
        let on = match self.token {
            Token::Name("on") => {
                self.take()?;
                Some(self.name()?)
            }
            Token::Name(_) => {
                return Ok(Selection::Spread(Spread {
                    name: self.name()?,
                    directives: self.directives()?,
                }));
            }
            _ => None,
        };
        Ok(Selection::Inline(Inline {
            pos,
            on,
            directives: self.directives()?,
            selections: self.selection_set()?,
        }))
    }

    fn field(&mut self) -> Parsed<Field> {
        let mut name = self.name()?;
        let mut alias = None;
        if self.takes(':')? {
            alias = Some(std::mem::replace(&mut name, self.name()?));
        }
        Ok(Field {
            alias,
            name,
            arguments: self.arguments(false)?,
            directives: self.directives()?,
            selections: match self.is('{') {
                true => Some(self.selection_set()?),
                false => None,
            },
        })
    }

    fn arguments(&mut self, constant: bool) -> Parsed<Vec<Argument>> {
        if !self.is('(') {
            return Ok(Vec::new());
        }
        self.some(['(', ')'], "an argument", |parser| {
            let name = parser.name()?;
            parser.expect(':')?;
            let value = parser.value(constant)?;
            Ok(Argument { name, value })
        })
    }

    fn directives(&mut self) -> Parsed<Vec<Directive>> {
        self.directives_of(false)
    }

    fn directives_of(&mut self, constant: bool) -> Parsed<Vec<Directive>> {
        let mut directives = Vec::new();
        loop {
            let pos = self.pos;
            if !self.takes('@')? {
                return Ok(directives);
            }
            let node = self.name()?.node;
            directives.push(Directive {
                name: Named { pos, node },
                arguments: self.arguments(constant)?,
            });
        }
    }

    /// A value; a constant one has no variable in it.
    fn value(&mut self, constant: bool) -> Parsed<Value> {
        let pos = self.pos;
        let kind = match &self.token {
            Token::Punctuator('$') if !constant => {
                self.take()?;
                ValueKind::Variable(self.name()?.node)
            }
            Token::Punctuator('[') => {
                ValueKind::List(self.between(['[', ']'], |parser| parser.value(constant))?)
            }
            Token::Punctuator('{') => ValueKind::Object(self.between(['{', '}'], |parser| {
                let name = parser.name()?;
                parser.expect(':')?;
                Ok((name, parser.value(constant)?))
            })?),
            Token::Name(_) | Token::Int(_) | Token::Float(_) | Token::String(_) => {
                match self.take()? {
                    Token::Name("true") => ValueKind::Boolean(true),
                    Token::Name("false") => ValueKind::Boolean(false),
                    Token::Name("null") => ValueKind::Null,
                    Token::Int(number) => ValueKind::Int(number.into()),
                    Token::Float(number) => ValueKind::Float(number.into()),
                    Token::String(text) => ValueKind::String(text.into_owned()),
                    Token::Name(name) => ValueKind::Enum(Name::new(name)),
                    _ => return self.unexpected("a value"),
                }
            }
            _ => return self.unexpected("a value"),
        };
        Ok(Value { pos, kind })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The string of `{ a(b: …) }`.
    fn text(literal: &str) -> Parsed<String> {
        let document = parse(&format!("{{ a(b: {literal}) }}"))?;
        let Selection::Field(field) = &document.operations[0].selections.items[0] else {
            unreachable!("it is a field")
        };
        match &field.arguments[0].value.kind {
            ValueKind::String(text) => Ok(text.clone()),
            other => unreachable!("{other:?} is no string"),
        }
    }

    #[test]
    fn strings_are_what_the_specification_says() {
        for (literal, value) in [
            (r#""""#, ""),
            (r#""a\n\t\"\\\/b""#, "a\n\t\"\\/b"),
            (r#""\u00e9\u{e9}\u{0000000e9}""#, "ééé"),
            (r#""\uD83D\uDE00""#, "😀"),
            (r#""\u{1F600}😀""#, "😀😀"),
            (r#""""say \"""hi\""" \n ok""""#, r#"say """hi""" \n ok"#),
            ("\"\"\"\n    a\n      b\n\n    c\r\n\"\"\"", "a\n  b\n\nc"),
            ("\"\"\"  first\n  second\"\"\"", "  first\nsecond"),
            ("\"\"\"\"\"\"", ""),
            ("\"\"\" \n \t \"\"\"", ""),
        ] {
            assert_eq!(text(literal).as_deref(), Ok(value), "{literal}");
        }
        for wrong in [
            r#""\uD83D""#,
            r#""\uDE00""#,
            r#""\uD83D\u0041""#,
            r#""\u{110000}""#,
            r#""\u{D83D}\u{DE00}""#,
            r#""\uD83D\u{DE00}""#,
            r#""\u{}""#,
            r#""\u{FFFFFFFFFF}""#,
            r#""\u00g0""#,
            r#""\x""#,
            "\"a\nb\"",
            "\"\"\"a",
            "\"",
            "\"\\",
            "\"\\é\"",
        ] {
            assert!(text(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_no_document_is_refused_where_it_goes_wrong() {
        let wrong = |text: &str| {
            let error = parse(text).unwrap_err();
            let pos = error.pos().unwrap();
            (pos.line, pos.column, error.to_string())
        };
        let said = |line, column, message: &str| (line, column, format!("syntax error: {message}"));
        assert_eq!(
            wrong("{ a(b: \"é\") \n  { c"),
            said(2, 6, "expected a name, found the end of the document")
        );
        assert_eq!(wrong("{ é }"), said(1, 3, "unexpected character 'é'"));
        assert_eq!(
            wrong("query Q() { a }"),
            said(1, 8, "expected a variable between \"(\" and \")\"")
        );
        assert_eq!(
            wrong("{ a } fragment on on T { a }"),
            said(1, 16, "expected a fragment's name, found \"on\"")
        );
        assert_eq!(wrong("{ ééé }").1, 3,);
        assert_eq!(
            wrong("# ééé\n\"ééé\" é"),
            said(2, 7, "unexpected character 'é'")
        );
        for text in [
            "",
            "{}",
            "{ a(b: 01) }",
            "{ a(b: 1.) }",
            "{ a(b: 1x) }",
            "{ a(b: -) }",
            "{ a(b: 1e) }",
            "{ a(b: 1.2.3) }",
            "{ a: }",
            "{ a() }",
            "{ a @ }",
            "{ ... on }",
            "{ a } }",
            "type T { a: Int }",
            "query($a: Int = $b) { a }",
            "query($a: Int @d = 1) { a }",
            "query Q { }",
            "{ a { } }",
            "{ .. a }",
            "\"of nothing\" { a }",
            "\"twice\" \"said\" query { a }",
            "query($a: [Int) { a }",
            "{ a(b: $) }",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_the_grammar_allows_is_read() {
        for text in [
            "\u{feff}{ a }",
            "query Q($a: [Int!]! = [1, -0, 1.5e-3] @d(x: {y: ENUM}), $b: T) @d { a }",
            "{ on fragment query: mutation true null(type: false) }",
            "fragment fragment on on { on } { ...fragment ... on on { a } ... @include(if: true) { b } }",
            "subscription{a}mutation M{b}",
            "{,,a,,}#",
            "\"A query\" query Q(\"whom\" $a: Int = 1 \"\"\"and\"\"\" $b: T) { a } \"of T\" fragment F on T { a }",
            "{ a(b: 123456789012345678901234567890, c: \"\", d: \"\"\"\"\"\") }",
        ] {
            assert!(parse(text).is_ok(), "{text}: {:?}", parse(text));
        }
    }

    #[test]
    fn what_goes_beyond_a_limit_is_refused_and_the_limit_itself_is_not() {
        let deep = |n: usize| format!("{}a{}", "{a".repeat(n), "}".repeat(n));
        assert!(parse(&deep(MAX_DEPTH)).is_ok());
        assert!(matches!(
            parse(&deep(MAX_DEPTH + 1)),
            Err(ParseError::Depth(_))
        ));
        for wrap in ["[", "{a:"] {
            let value = format!("{{a(b:{}", wrap.repeat(5000));
            assert!(matches!(parse(&value), Err(ParseError::Depth(_))), "{wrap}");
        }
        let ty = format!("query($a:{}", "[".repeat(5000));
        assert!(matches!(parse(&ty), Err(ParseError::Depth(_))));
        // Braces, and what ends the document.
        let many = |n: usize| format!("{{{}}}", " a".repeat(n - 3));
        assert!(parse(&many(MAX_TOKENS)).is_ok());
        assert!(matches!(
            parse(&many(MAX_TOKENS + 1)),
            Err(ParseError::Tokens(_))
        ));
        let definitions = |n: usize| "{a}".repeat(n);
        assert!(parse(&definitions(MAX_DEFINITIONS)).is_ok());
        assert!(matches!(
            parse(&definitions(MAX_DEFINITIONS + 1)),
            Err(ParseError::Definitions(_))
        ));
        let long = |n: usize| format!("{{a}}#{}", "x".repeat(n - 4));
        assert!(parse(&long(MAX_BYTES)).is_ok());
        assert_eq!(
            parse(&long(MAX_BYTES + 1)).unwrap_err(),
            ParseError::Bytes(MAX_BYTES + 1)
        );
    }

    proptest! {
        /// Whatever the text, it is read to its end or refused, and never in a panic.
        #[test]
        fn any_text_is_read_or_refused(text in "[\\PC\"\\\\#{}\\[\\]()@$:=!.\n\r u0-9a-fD]{0,300}") {
            let _ = parse(&text);
        }

        /// The same for what is nearly a string.
        #[test]
        fn any_string_is_read_or_refused(inside in "[\"\\\\u{}DdEe0-9é😀\n ]{0,60}") {
            let _ = parse(&format!("{{ a(b: \"{inside}\") }}"));
            let _ = parse(&format!("{{ a(b: \"\"\"{inside}\"\"\") }}"));
        }
    }
}
