//! What one value of the file means: text, a number in its range, a duration, a list.
//!
//! Every wrong type is answered with what stands there and what to write.

use std::ops::RangeInclusive;

use toml::de::DeValue;

use super::error::{Mistake, quoted};
use super::keys::{self, Measure, Table};
use super::raw::{Item, Written};
use super::units::{Amounts, Unit};

impl<'a> Item<'a> {
    /// A mistake of this value.
    pub(super) fn mistake(&self, problem: impl Into<String>) -> Mistake {
        Mistake {
            location: self.value.span().into(),
            key: self.key.clone(),
            problem: problem.into(),
        }
    }

    /// The line it starts on, counted from 1.
    pub(super) fn line(&self) -> usize {
        self.page.line(self.value.span().start)
    }

    /// The mistake of a value of another type than `example` has.
    pub(super) fn wrong_type(&self, example: &str) -> Mistake {
        self.mistake(format!("{}; write {example}", describe(self.value.get_ref())))
    }

    /// Text as it stands there.
    pub(super) fn text(&self, example: &str) -> Result<&'a str, Mistake> {
        match self.value.get_ref() {
            DeValue::String(text) => Ok(text),
            _ => Err(self.wrong_type(example)),
        }
    }

    /// Text, and what `read` makes of it. `read` fails with what is wrong and the remedy.
    pub(super) fn read<T>(
        &self,
        example: &str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<T, Mistake> {
        read(self.text(example)?).map_err(|problem| self.mistake(problem))
    }

    /// `true` or `false`.
    pub(super) fn boolean(&self) -> Result<bool, Mistake> {
        match self.value.get_ref() {
            DeValue::Boolean(value) => Ok(*value),
            DeValue::String(text) => {
                let meant = match text.to_ascii_lowercase().as_str() {
                    "true" | "yes" | "on" => "true, without quotes",
                    "false" | "no" | "off" => "false, without quotes",
                    _ => "true or false",
                };
                Err(self.wrong_type(meant))
            }
            _ => Err(self.wrong_type("true or false")),
        }
    }

    /// An amount within `range`, or `None` for `word`, if there is one.
    pub(super) fn amount(
        &self,
        measure: Measure,
        range: &RangeInclusive<u64>,
        word: Option<&str>,
    ) -> Result<Option<u64>, Mistake> {
        if matches!(self.value.get_ref(), DeValue::String(text) if Some(text.as_ref()) == word) {
            return Ok(None);
        }
        match measure {
            Measure::Number => self.number(range, word),
            Measure::With(unit) => self.with_unit(unit, &Amounts { range, step: 1 }, word),
            Measure::WholeSeconds => self.whole_seconds(range, word),
        }
        .map(Some)
    }

    /// A whole number within `range`.
    fn number(&self, range: &RangeInclusive<u64>, word: Option<&str>) -> Result<u64, Mistake> {
        let word = word.map(|word| format!("\"{word}\" or ")).unwrap_or_default();
        let remedy = format!("{word}a number from {} to {}", range.start(), range.end());
        let fits = |value: i128| u64::try_from(value).ok().filter(|value| range.contains(value));
        match self.value.get_ref() {
            DeValue::Integer(number) => i128::from_str_radix(number.as_str(), number.radix())
                .ok()
                .and_then(fits)
                .ok_or_else(|| self.mistake(format!("{number} is out of range; write {remedy}"))),
            DeValue::String(text) => match text.trim().parse().ok().and_then(fits) {
                Some(number) => Err(self.wrong_type(&format!("{number}, without quotes"))),
                None => Err(self.wrong_type(&remedy)),
            },
            _ => Err(self.wrong_type(&remedy)),
        }
    }

    /// A number and its unit, within `range`.
    fn with_unit(
        &self,
        unit: Unit,
        takes: &Amounts<'_>,
        word: Option<&str>,
    ) -> Result<u64, Mistake> {
        let noun = if unit == Unit::Time { "a duration" } else { "a size" };
        let or = |what: &str| word.map_or(String::new(), |word| format!("\"{word}\", or {what}"));
        let examples = format!("{}{}", or(&format!("{noun} such as ")), unit.examples(takes));
        if let DeValue::Integer(number) = self.value.get_ref() {
            return Err(self.mistake(format!("{number} has no unit; write {examples}")));
        }
        let amount = self.read(&examples, |text| unit.read(text, takes, &examples))?;
        let range = takes.range;
        if range.contains(&amount) {
            return Ok(amount);
        }
        let (written, or) = (shown(self.value.get_ref()), or(""));
        let [least, most] = [range.start(), range.end()].map(|end| unit.show(*end));
        Err(self.mistake(format!("{written} is out of range; write {or}{least} to {most}")))
    }

    /// A duration that the kernel counts in seconds.
    fn whole_seconds(
        &self,
        range: &RangeInclusive<u64>,
        word: Option<&str>,
    ) -> Result<u64, Mistake> {
        let time = self.with_unit(Unit::Time, &Amounts { range, step: 1_000 }, word)?;
        if time.is_multiple_of(1_000) {
            return Ok(time);
        }
        let (written, more) = (shown(self.value.get_ref()), time / 1_000 + 1);
        Err(self.mistake(format!("{written} is not a number of whole seconds; write \"{more}s\"")))
    }

    /// The number of the word that stands there, one of `words`; `wrong` is what any other is.
    pub(super) fn word(&self, words: &[&str], wrong: &str) -> Result<usize, Mistake> {
        let remedy = keys::either(words);
        let text = self.text(&remedy)?;
        let place = words.iter().position(|word| *word == text);
        place.ok_or_else(|| self.mistake(format!("{} is {wrong}; write {remedy}", quoted(text))))
    }

    /// The elements of a list, or the value itself when it is no list.
    pub(super) fn one_or_many(&self) -> Vec<Item<'a>> {
        self.elements().unwrap_or_else(|| vec![self.clone()])
    }

    /// The elements of a list; `None` when the value is no list.
    pub(super) fn elements(&self) -> Option<Vec<Item<'a>>> {
        let DeValue::Array(array) = self.value.get_ref() else { return None };
        let element = |(at, value): (usize, &'a toml::Spanned<DeValue<'a>>)| Item {
            key: format!("{}[{at}]", self.key),
            value,
            page: self.page,
        };
        Some(array.iter().enumerate().map(element).collect())
    }

    /// What is written of a table.
    pub(super) fn table(&self, table: &'static Table) -> Result<Written<'a>, Mistake> {
        match self.value.get_ref() {
            DeValue::Table(content) => {
                Ok(Written::read(table, content, &format!("{}.", self.key), self.page))
            }
            _ => Err(self.wrong_type(&format!("a table: {}", table.header))),
        }
    }
}

/// A value as it stands in the file, short.
pub(super) fn shown(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => quoted(text),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(value) => value.to_string(),
        DeValue::Datetime(time) => time.to_string(),
        DeValue::Array(_) => "[...]".to_owned(),
        DeValue::Table(_) => "{...}".to_owned(),
    }
}

/// What stands there instead of what should.
fn describe(value: &DeValue<'_>) -> String {
    let kind = match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    };
    format!("{} is {kind}", shown(value))
}
