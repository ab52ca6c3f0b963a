//! What one value of the file means: text, a number in its range, a duration, a list.
//!
//! Every wrong type is answered with what stands there and what to write.

use std::ops::RangeInclusive;
use std::time::Duration;

use toml::de::DeValue;

use super::error::{Fault, quoted};
use super::raw::{Item, Mirror};
use super::units;

impl<'a> Item<'a> {
    /// A fault of this value.
    pub(super) fn fault(&self, problem: impl Into<String>) -> Fault {
        Fault { place: self.value.span().into(), key: self.key.clone(), problem: problem.into() }
    }

    /// The line it starts on, counted from 1.
    pub(super) fn line(&self) -> usize {
        self.page.line(self.value.span().start)
    }

    /// The fault of a value of another type than `example` has.
    pub(super) fn wrong_type(&self, example: &str) -> Fault {
        self.fault(format!("{}; write {example}", describe(self.value.get_ref())))
    }

    /// Text as it stands there.
    pub(super) fn text(&self, example: &str) -> Result<&'a str, Fault> {
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
    ) -> Result<T, Fault> {
        read(self.text(example)?).map_err(|problem| self.fault(problem))
    }

    /// `true` or `false`.
    pub(super) fn boolean(&self) -> Result<bool, Fault> {
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

    /// A whole number within `range`.
    pub(super) fn number(&self, range: RangeInclusive<u32>) -> Result<u32, Fault> {
        let remedy = format!("a number from {} to {}", range.start(), range.end());
        self.number_within(&range, &remedy)
    }

    /// A whole number within `range`, or `None` for `"auto"`.
    pub(super) fn number_or_auto(&self, range: RangeInclusive<u32>) -> Result<Option<u32>, Fault> {
        if matches!(self.value.get_ref(), DeValue::String(text) if text == "auto") {
            return Ok(None);
        }
        let remedy = format!("\"auto\" or a number from {} to {}", range.start(), range.end());
        self.number_within(&range, &remedy).map(Some)
    }

    /// A whole number within `range`; `remedy` is what may be written.
    fn number_within(&self, range: &RangeInclusive<u32>, remedy: &str) -> Result<u32, Fault> {
        let fits = |value: i128| u32::try_from(value).ok().filter(|value| range.contains(value));
        match self.value.get_ref() {
            DeValue::Integer(number) => i128::from_str_radix(number.as_str(), number.radix())
                .ok()
                .and_then(fits)
                .ok_or_else(|| self.fault(format!("{number} is out of range; write {remedy}"))),
            DeValue::String(text) => match text.trim().parse().ok().and_then(fits) {
                Some(number) => Err(self.wrong_type(&format!("{number}, without quotes"))),
                None => Err(self.wrong_type(remedy)),
            },
            _ => Err(self.wrong_type(remedy)),
        }
    }

    /// A duration within `range`.
    pub(super) fn duration(&self, range: &RangeInclusive<Duration>) -> Result<Duration, Fault> {
        self.duration_or(range, None)
    }

    /// A duration within `range`; remedies name `word`, which may stand there too.
    fn duration_or(
        &self,
        range: &RangeInclusive<Duration>,
        word: Option<&str>,
    ) -> Result<Duration, Fault> {
        let examples = with_word(word, "a duration such as ", units::DURATION_EXAMPLES);
        if let DeValue::Integer(number) = self.value.get_ref() {
            return Err(self.fault(format!("{number} has no unit; write {examples}")));
        }
        let value = self.read(&examples, |text| units::duration(text, &examples))?;
        self.within(range, value, word, units::show_duration)
    }

    /// A duration within `range`, or `None` for `"off"`.
    pub(super) fn duration_or_off(
        &self,
        range: &RangeInclusive<Duration>,
    ) -> Result<Option<Duration>, Fault> {
        match self.value.get_ref() {
            DeValue::String(text) if text == "off" => Ok(None),
            _ => self.duration_or(range, Some("off")).map(Some),
        }
    }

    /// A number of bytes within `range`; `None` for `"auto"`.
    pub(super) fn size_or_auto(
        &self,
        range: &RangeInclusive<usize>,
    ) -> Result<Option<usize>, Fault> {
        match self.value.get_ref() {
            DeValue::String(text) if text == "auto" => Ok(None),
            _ => self.size_or(range, Some("auto")).map(Some),
        }
    }

    /// A number of bytes within `range`.
    pub(super) fn size(&self, range: &RangeInclusive<usize>) -> Result<usize, Fault> {
        self.size_or(range, None)
    }

    /// A number of bytes within `range`; remedies name `word`, which may stand there too.
    fn size_or(&self, range: &RangeInclusive<usize>, word: Option<&str>) -> Result<usize, Fault> {
        let examples = with_word(word, "a size such as ", units::SIZE_EXAMPLES);
        if let DeValue::Integer(number) = self.value.get_ref() {
            return Err(self.fault(format!("{number} has no unit; write {examples}")));
        }
        let value = self.read(&examples, |text| units::size(text, &examples))?;
        self.within(range, value, word, units::show_size)
    }

    fn within<T: PartialOrd + Copy>(
        &self,
        range: &RangeInclusive<T>,
        value: T,
        word: Option<&str>,
        show: fn(T) -> String,
    ) -> Result<T, Fault> {
        if range.contains(&value) {
            return Ok(value);
        }
        let (least, most) = (show(*range.start()), show(*range.end()));
        let remedy = with_word(word, "", &format!("{least} to {most}"));
        let written = shown(self.value.get_ref());
        Err(self.fault(format!("{written} is out of range; write {remedy}")))
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

    /// A table, taken apart.
    pub(super) fn table<T: Mirror<'a>>(&self) -> Result<T, Fault> {
        match self.value.get_ref() {
            DeValue::Table(table) => Ok(T::read(table, &format!("{}.", self.key), self.page)),
            _ => Err(self.wrong_type(&format!("a table: {}", T::HEADER))),
        }
    }
}

/// What may be written: `word`, if there is one, or `others`, which `what` introduces then.
fn with_word(word: Option<&str>, what: &str, others: &str) -> String {
    word.map_or(others.to_owned(), |word| format!("\"{word}\", or {what}{others}"))
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
