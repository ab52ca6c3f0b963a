//! Tables in as much room as there is: texts are cut, then columns left out, the least important first.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};
use ratatui::text::Span;

/// Between two columns.
const GAP: u16 = 2;
/// The widest column.
const WIDEST: u16 = 1000;

/// One column of a table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    pub(super) title: &'static str,
    /// Numbers end at the same place.
    pub(super) is_right: bool,
    /// How narrow it may become; `None`: its texts are not cut.
    pub(super) least: Option<u16>,
    /// Those with a lower rank go first; the highest never does.
    pub(super) rank: u8,
}

impl Column {
    /// Of texts that may be cut to `least`.
    pub(super) const fn of_text(title: &'static str, least: u16, rank: u8) -> Column {
        Column { title, is_right: false, least: Some(least), rank }
    }

    /// Of words, which are whole or not there.
    pub(super) const fn of_words(title: &'static str, rank: u8) -> Column {
        Column { title, is_right: false, least: None, rank }
    }

    pub(super) const fn of_numbers(title: &'static str, rank: u8) -> Column {
        Column { title, is_right: true, least: None, rank }
    }
}

/// One row: a text and its style for each column.
pub(super) type Cells<const N: usize> = [(String, Style); N];

/// How many columns of the screen this text takes, of those that any may have.
fn width(text: &str) -> u16 {
    u16::try_from(Span::raw(text).width()).map_or(WIDEST, |width| width.min(WIDEST))
}

/// Draws the titles, and below them as many of the rows, from `first` on, as there is room for.
pub(super) fn draw_table<const N: usize>(
    buffer: &mut Buffer,
    area: Rect,
    columns: &[Column; N],
    (rows, first): (&[Cells<N>], usize),
) {
    let widest = |at: usize| rows.iter().map(|row| width(&row[at].0)).max().unwrap_or_default();
    let natural: [u16; N] = std::array::from_fn(|at| match widest(at) {
        // A column in which nothing stands is left out.
        0 if !rows.is_empty() => 0,
        widest => widest.max(width(columns[at].title)),
    });
    let widths = fitted(columns, natural, area.width);
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let titles = columns.each_ref().map(|column| (column.title.to_owned(), bold));
    let shown = rows.iter().skip(first).take(usize::from(area.height.saturating_sub(1)));
    for (row, y) in std::iter::once(&titles).chain(shown).zip(area.top()..area.bottom()) {
        let mut x = area.left();
        for ((column, (text, style)), &width) in columns.iter().zip(row).zip(&widths) {
            if width > 0 {
                draw_cell(buffer, (x, y, width), column.is_right, (text, *style));
                x = x.saturating_add(width + GAP);
            }
        }
    }
}

/// A text in this place, with a mark at its end if it is cut.
fn draw_cell(
    buffer: &mut Buffer,
    (x, y, room): (u16, u16, u16),
    is_right: bool,
    (text, style): (&str, Style),
) {
    let width = width(text);
    let indent = if is_right { room.saturating_sub(width) } else { 0 };
    buffer.set_stringn(x + indent, y, text, usize::from(room), style);
    if width > room {
        buffer.set_stringn(x + room - 1, y, "…", 1, style);
    }
}

/// The width of each column, 0 for one that is left out, so that all of it fits into `room`.
fn fitted<const N: usize>(columns: &[Column; N], natural: [u16; N], room: u16) -> [u16; N] {
    let mut widths = natural;
    let least = |at: usize| columns[at].least.map_or(natural[at], |least| least.min(natural[at]));
    let total = |widths: [u16; N]| {
        let kept = widths.into_iter().filter(|width| *width > 0);
        let with_gaps: u32 = kept.map(|width| u32::from(width + GAP)).sum();
        with_gaps.saturating_sub(u32::from(GAP))
    };
    let leasts =
        |widths: [u16; N]| std::array::from_fn(|at| if widths[at] > 0 { least(at) } else { 0 });
    while total(leasts(widths)) > u32::from(room) {
        let kept: Vec<usize> = (0..N).filter(|at| widths[*at] > 0).collect();
        match kept.iter().min_by_key(|at| columns[**at].rank) {
            Some(at) if kept.len() > 1 => widths[*at] = 0,
            Some(at) => {
                widths[*at] = room;
                return widths;
            }
            None => return widths,
        }
    }
    while total(widths) > u32::from(room) {
        let shrinks = (0..N).filter(|at| widths[*at] > least(*at));
        // When none can they fit: all have their least.
        let Some(at) = shrinks.min_by_key(|at| columns[*at].rank) else { break };
        widths[at] -= 1;
    }
    widths
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 3] = [
        Column::of_text("name", 4, 2),
        Column::of_numbers("rate", 1),
        Column::of_text("why", 3, 0),
    ];

    #[test]
    fn texts_are_cut_before_columns_are_left_out() {
        let natural = [10, 5, 12];
        assert_eq!(fitted(&COLUMNS, natural, 40), [10, 5, 12]);
        assert_eq!(fitted(&COLUMNS, natural, 31), [10, 5, 12]);
        assert_eq!(fitted(&COLUMNS, natural, 30), [10, 5, 11]);
        assert_eq!(fitted(&COLUMNS, natural, 20), [8, 5, 3]);
        assert_eq!(fitted(&COLUMNS, natural, 16), [4, 5, 3]);
        assert_eq!(fitted(&COLUMNS, natural, 15), [8, 5, 0]);
        assert_eq!(fitted(&COLUMNS, natural, 10), [10, 0, 0]);
        assert_eq!(fitted(&COLUMNS, natural, 2), [2, 0, 0]);
        assert_eq!(fitted(&COLUMNS, natural, 0), [0, 0, 0]);
    }

    #[test]
    fn a_cut_text_has_a_mark_and_an_empty_column_takes_no_room() {
        let cell = |text: &str| (text.to_owned(), Style::new());
        let rows = [["a-long-name", "5", ""].map(cell), ["\u{4e16}\u{754c}", "12", ""].map(cell)];
        let area = Rect::new(0, 0, 12, 3);
        let mut buffer = Buffer::empty(area);
        draw_table(&mut buffer, area, &COLUMNS, (&rows, 0));
        let expected = ["name    rate", "a-lon…     5", "\u{4e16}\u{754c}      12"];
        assert_eq!(super::super::draw::lines(&buffer), expected);
    }
}
