//! Text into rules.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use super::rules::{Atom, Clause, Comparison, Literal, Rule, Term};
use super::{Mistake, Value};

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Number(u64),
    Sign(&'static str),
}

/// Longer ones first: `:-` is no colon.
const SIGNS: [&str; 9] = [":-", "!=", "<=", "<", "=", "(", ")", ",", "."];

fn tokens(text: &str) -> Result<Vec<Token>, Mistake> {
    let mut tokens = Vec::new();
    for line in text.lines() {
        let mut rest = line.split('%').next().unwrap_or_default().trim_start();
        while let Some(first) = rest.chars().next() {
            let word = rest
                .find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_')
                .unwrap_or(rest.len());
            let length = if first.is_ascii_digit() {
                let number =
                    rest[..word].parse().map_err(|_| Mistake(format!("`{}` is no number", &rest[..word])))?;
                tokens.push(Token::Number(number));
                word
            } else if word > 0 {
                tokens.push(Token::Word(rest[..word].to_string()));
                word
            } else if let Some(sign) = SIGNS.into_iter().find(|sign| rest.starts_with(sign)) {
                tokens.push(Token::Sign(sign));
                sign.len()
            } else {
                return Err(Mistake(format!("`{first}` means nothing here")));
            };
            rest = rest[length..].trim_start();
        }
    }
    Ok(tokens)
}

struct Parser {
    tokens: vec::IntoIter<Token>,
}

impl Parser {
    fn new(text: &str) -> Result<Self, Mistake> {
        Ok(Self { tokens: tokens(text)?.into_iter() })
    }

    fn peek(&self) -> Option<&Token> {
        self.tokens.as_slice().first()
    }

    /// Takes this sign, if it is the next token.
    fn sign(&mut self, sign: &str) -> bool {
        let is = matches!(self.peek(), Some(Token::Sign(next)) if *next == sign);
        if is {
            self.tokens.next();
        }
        is
    }

    fn expect(&mut self, sign: &str) -> Result<(), Mistake> {
        if self.sign(sign) {
            return Ok(());
        }
        Err(Mistake(match self.peek() {
            None => format!("the text ends where a `{sign}` should be"),
            Some(Token::Word(word)) => format!("`{word}` stands where a `{sign}` should be"),
            Some(Token::Number(number)) => format!("`{number}` stands where a `{sign}` should be"),
            Some(Token::Sign(other)) => format!("`{other}` stands where a `{sign}` should be"),
        }))
    }

    fn term(&mut self) -> Result<Term, Mistake> {
        match self.tokens.next() {
            Some(Token::Number(number)) => Ok(Term::Value(Value::Number(number))),
            Some(Token::Word(word)) if word == "_" => Ok(Term::Any),
            Some(Token::Word(word)) if word.starts_with(|first: char| first.is_ascii_uppercase()) => {
                Ok(Term::Variable(word))
            }
            Some(Token::Word(word)) => Ok(Term::Value(Value::Name(word))),
            Some(Token::Sign(sign)) => Err(Mistake(format!("`{sign}` stands where an argument should be"))),
            None => Err(Mistake("the text ends where an argument should be".into())),
        }
    }

    /// What follows a relation's name.
    fn atom(&mut self, name: String) -> Result<Atom, Mistake> {
        if !name.starts_with(|first: char| first.is_ascii_lowercase()) {
            return Err(Mistake(format!(
                "`{name}` is no name of a relation: those begin with a small letter"
            )));
        }
        self.expect("(")?;
        let mut terms = vec![self.term()?];
        while self.sign(",") {
            terms.push(self.term()?);
        }
        self.expect(")")?;
        Ok(Atom { name, terms })
    }

    fn literal(&mut self) -> Result<Literal, Mistake> {
        let term = self.term()?;
        if let Term::Value(Value::Name(name)) = &term {
            if name == "not"
                && let Some(Token::Word(denied)) = self.peek().cloned()
            {
                self.tokens.next();
                return self.atom(denied).map(Literal::IsNot);
            }
            if self.peek() == Some(&Token::Sign("(")) {
                return self.atom(name.clone()).map(Literal::Is);
            }
        }
        let comparison = match self.tokens.next() {
            Some(Token::Sign("=")) => Comparison::Equal,
            Some(Token::Sign("!=")) => Comparison::Unequal,
            Some(Token::Sign("<")) => Comparison::Less,
            Some(Token::Sign("<=")) => Comparison::AtMost,
            _ => return Err(Mistake("a condition is a relation, or one of = != < <=".into())),
        };
        Ok(Literal::Compare(term, comparison, self.term()?))
    }

    fn body(&mut self) -> Result<Vec<Literal>, Mistake> {
        let mut body = vec![self.literal()?];
        while self.sign(",") {
            body.push(self.literal()?);
        }
        Ok(body)
    }

    fn clause(&mut self, name: String) -> Result<Clause, Mistake> {
        let head = self.atom(name)?;
        let body = if self.sign(":-") { self.body()? } else { Vec::new() };
        self.expect(".")?;
        Rule::checked(head, body)
    }
}

/// Facts and rules.
pub(super) fn program(text: &str) -> Result<Vec<Clause>, Mistake> {
    let mut parser = Parser::new(text)?;
    let mut clauses = Vec::new();
    while let Some(token) = parser.tokens.next() {
        let Token::Word(name) = token else {
            return Err(Mistake("a rule begins with a relation's name".into()));
        };
        clauses.push(parser.clause(name)?);
    }
    Ok(clauses)
}

/// A body without a head.
pub(super) fn question(text: &str) -> Result<Vec<Literal>, Mistake> {
    let mut parser = Parser::new(text)?;
    let body = parser.body()?;
    parser.sign(".");
    match parser.peek() {
        None => Ok(body),
        Some(_) => Err(Mistake("there is more behind the question".into())),
    }
}
