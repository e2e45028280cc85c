//! What went wrong, for whoever asked.

use candid_parser::token::LexicalError;
use lalrpop_util::ParseError;
use std::fmt::Display;
use std::ops::Range;

/// Longer ones are cut: they may quote a whole value.
const MESSAGE_CHARACTERS_MAX: usize = 400;

pub type Outcome<T> = Result<T, Failure>;

#[derive(Debug)]
pub struct Failure {
    pub message: String,
    /// Bytes of the text that it is at.
    pub span: Option<Range<usize>>,
    /// Which text, if several were given.
    pub source: String,
}

impl Failure {
    pub fn new(message: impl Display) -> Self {
        Failure {
            message: shortened(&message.to_string()),
            span: None,
            source: String::new(),
        }
    }

    /// Says of which text it is.
    pub fn of(mut self, source: &str) -> Self {
        self.source = source.to_string();
        self
    }

    /// Says where it is in a text that has this many bytes more in front.
    pub fn moved(mut self, prefix: usize) -> Self {
        self.span = self
            .span
            .map(|it| it.start.saturating_sub(prefix)..it.end.saturating_sub(prefix));
        self
    }

    pub fn to_json(&self) -> String {
        let span = self.span.clone();
        serde_json::json!({
            "message": self.message,
            "start": span.clone().map(|it| it.start),
            "end": span.map(|it| it.end),
            "source": self.source,
        })
        .to_string()
    }
}

impl From<candid::Error> for Failure {
    fn from(error: candid::Error) -> Self {
        // With all causes on one line.
        match error {
            candid::Error::Custom(error) => Failure::new(format!("{error:#}")),
            other => Failure::new(other),
        }
    }
}

impl From<candid_parser::Error> for Failure {
    fn from(error: candid_parser::Error) -> Self {
        use candid_parser::Error;
        match error {
            Error::Parse(error) => of_parser(error),
            Error::CandidError(error) => error.into(),
            Error::Custom(error) => Failure::new(format!("{error:#}")),
        }
    }
}

fn of_parser<T: std::fmt::Debug>(error: ParseError<usize, T, LexicalError>) -> Failure {
    let (message, span) = match error {
        ParseError::User { error } => (error.err, error.span),
        ParseError::InvalidToken { location } => (
            "a character that does not belong here".into(),
            location..location + 1,
        ),
        ParseError::UnrecognizedEof { location, expected } => (
            format!("the text ends too early{}", wanted(&expected)),
            location..location,
        ),
        ParseError::UnrecognizedToken { token, expected } => (
            format!("this does not belong here{}", wanted(&expected)),
            token.0..token.2,
        ),
        ParseError::ExtraToken { token } => {
            ("nothing more should follow here".into(), token.0..token.2)
        }
    };
    let mut failure = Failure::new(message);
    // The parser's own way of saying that it does not know the place.
    failure.span = (span != (0..0)).then_some(span);
    failure
}

fn wanted(expected: &[String]) -> String {
    let mut words: Vec<String> = expected
        .iter()
        .map(|word| match word.trim_matches('"') {
            "decimal" | "hex" | "sign" | "float" => "a number".to_string(),
            "text" => "a text in double quotes".to_string(),
            "id" => "a name".to_string(),
            "bool" => "true or false".to_string(),
            other => format!("`{other}`"),
        })
        .collect();
    words.sort();
    words.dedup();
    match words.len() {
        0 => String::new(),
        1 => format!("; {} is expected", words[0]),
        _ => format!("; one of {} is expected", words.join(", ")),
    }
}

pub fn shortened(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= MESSAGE_CHARACTERS_MAX {
        return line;
    }
    let half = MESSAGE_CHARACTERS_MAX / 2;
    let count = line.chars().count();
    let front: String = line.chars().take(half).collect();
    let back: String = line.chars().skip(count - half).collect();
    format!("{front} … {back}")
}
