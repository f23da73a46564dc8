//! The language of executable documents ("Language" of the specification): text in, tree out.

pub(super) mod ast;
mod lexer;
mod parser;

pub(super) use self::parser::parse;
