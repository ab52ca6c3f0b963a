//! What one value of the file means: text, a number in its range, a duration, a list.
//!
//! Every wrong type is answered with what stands there and what to write.

use std::ops::RangeInclusive;
use std::time::Duration;

use toml::de::DeValue;

use super::error::{Fault, quoted};
use super::raw::{Item, Lines, Mirror};
use super::units;

impl<'a> Item<'a> {
    /// A fault of this value.
    pub(super) fn fault(&self, problem: impl Into<String>) -> Fault {
        Fault { line: Some(self.line), key: self.key.clone(), problem: problem.into() }
    }

    /// The fault of a value of another type than `example` has.
    pub(super) fn wrong_type(&self, example: &str) -> Fault {
        self.fault(format!("{}; write {example}", describe(self.value)))
    }

    /// Text as it stands there.
    pub(super) fn text(&self, example: &str) -> Result<&'a str, Fault> {
        match self.value {
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
        match self.value {
            DeValue::Boolean(value) => Ok(*value),
            _ => Err(self.wrong_type("true or false")),
        }
    }

    /// A whole number within `range`.
    pub(super) fn number(&self, range: RangeInclusive<u32>) -> Result<u32, Fault> {
        let remedy = format!("a number from {} to {}", range.start(), range.end());
        let DeValue::Integer(number) = self.value else { return Err(self.wrong_type(&remedy)) };
        let value = i128::from_str_radix(number.as_str(), number.radix()).ok();
        value
            .and_then(|value| u32::try_from(value).ok())
            .filter(|value| range.contains(value))
            .ok_or_else(|| self.fault(format!("{number} is out of range; write {remedy}")))
    }

    /// A whole number within `range`, or `None` for `"auto"`.
    pub(super) fn number_or_auto(&self, range: RangeInclusive<u32>) -> Result<Option<u32>, Fault> {
        match self.value {
            DeValue::String(text) if text == "auto" => Ok(None),
            DeValue::Integer(_) => self.number(range).map(Some),
            _ => {
                let (least, most) = range.into_inner();
                Err(self.wrong_type(&format!("\"auto\" or a number from {least} to {most}")))
            }
        }
    }

    /// A duration within `range`.
    pub(super) fn duration(&self, range: &RangeInclusive<Duration>) -> Result<Duration, Fault> {
        if let DeValue::Integer(number) = self.value {
            let examples = units::DURATION_EXAMPLES;
            return Err(self.fault(format!("{number} has no unit; write {examples}")));
        }
        let value = self.read(units::DURATION_EXAMPLES, units::duration)?;
        self.within(range, value, units::show_duration)
    }

    /// A duration within `range`, or `None` for `"off"`.
    pub(super) fn duration_or_off(
        &self,
        range: &RangeInclusive<Duration>,
    ) -> Result<Option<Duration>, Fault> {
        match self.value {
            DeValue::String(text) if text == "off" => Ok(None),
            _ => self.duration(range).map(Some),
        }
    }

    /// A number of bytes within `range`.
    pub(super) fn size(&self, range: &RangeInclusive<usize>) -> Result<usize, Fault> {
        if let DeValue::Integer(number) = self.value {
            let examples = units::SIZE_EXAMPLES;
            return Err(self.fault(format!("{number} has no unit; write {examples}")));
        }
        let value = self.read(units::SIZE_EXAMPLES, units::size)?;
        self.within(range, value, units::show_size)
    }

    fn within<T: PartialOrd + Copy>(
        &self,
        range: &RangeInclusive<T>,
        value: T,
        show: fn(T) -> String,
    ) -> Result<T, Fault> {
        if range.contains(&value) {
            return Ok(value);
        }
        let (least, most) = (show(*range.start()), show(*range.end()));
        let problem = format!("{} is out of range; write {least} to {most}", shown(self.value));
        Err(self.fault(problem))
    }

    /// The elements of a list, or the value itself when it is no list.
    pub(super) fn one_or_many(&self, lines: &Lines) -> Vec<Item<'a>> {
        match self.value {
            DeValue::Array(_) => self.elements(lines).unwrap_or_default(),
            _ => vec![self.clone()],
        }
    }

    /// The elements of a list; `None` when the value is no list.
    pub(super) fn elements(&self, lines: &Lines) -> Option<Vec<Item<'a>>> {
        let DeValue::Array(array) = self.value else { return None };
        let element = |(at, value): (usize, &'a toml::Spanned<DeValue<'a>>)| Item {
            key: format!("{}[{at}]", self.key),
            line: lines.of(value.span().start),
            value: value.get_ref(),
        };
        Some(array.iter().enumerate().map(element).collect())
    }

    /// A table, taken apart.
    pub(super) fn table<T: Mirror<'a>>(&self, lines: &Lines) -> Result<T, Fault> {
        match self.value {
            DeValue::Table(table) => T::read(table, &format!("{}.", self.key), lines),
            _ => Err(self.wrong_type(&format!("a table: {}", T::HEADER))),
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
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    };
    format!("{} is {kind}", shown(value))
}
