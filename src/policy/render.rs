//! How problems look to people: the form that rustc made familiar.
//!
//! What is shown was made harmless before (`source`, `model::Text`); here it is only laid out.

use super::problem::{Problem, Problems, Severity};
use super::source::Excerpt;
use crate::model::Text;
use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};
use std::fmt;

/// Excerpts are cut to fit before, so that nothing is cut here.
const WIDTH: usize = 1000;

impl Problem {
    /// The problem with its source line and a caret under the culprit, with a newline at the end;
    /// in `colour` for a terminal.
    pub fn render(&self, colour: bool) -> String {
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        let renderer = renderer.term_width(WIDTH).decor_style(DecorStyle::Ascii);
        let mut text = renderer.render(&[self.group()]);
        text.push('\n');
        text
    }

    fn group(&self) -> Group<'_> {
        let level = match self.severity() {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let title = level.primary_title(&self.message).id(self.code.number());
        let file = Text::from(&*self.file);
        let mut group = Group::with_title(title);
        match &self.at {
            None => group = group.element(Origin::path(file.as_str().to_owned())),
            Some(at) => group = at_place(group, &file, at, AnnotationKind::Primary, None),
        }
        if let Some((label, at)) = &self.also {
            group = at_place(group, &file, at, AnnotationKind::Context, Some(label));
        }
        if let Some(help) = &self.help {
            group = group.element(Level::HELP.message(help));
        }
        group
    }
}

impl Problems {
    /// All problems, an empty line between them; in `colour` for a terminal.
    pub fn render(&self, colour: bool) -> String {
        self.iter().map(|problem| problem.render(colour)).collect::<Vec<_>>().join("\n")
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.render(false).trim_end())
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.render(false).trim_end())
    }
}

fn at_place<'a>(
    group: Group<'a>,
    file: &Text,
    at: &'a Excerpt,
    kind: AnnotationKind,
    label: Option<&'a str>,
) -> Group<'a> {
    let annotation = kind.span(at.mark.clone()).label(label);
    let snippet = Snippet::source(&at.line).line_start(at.start.line).annotation(annotation);
    let file = file.as_str().to_owned();
    if at.is_cut {
        // The column cannot be counted in what is left of the line, so it is stated.
        let origin = Origin::path(file).line(at.start.line).char_column(at.start.column);
        group.element(origin).element(snippet)
    } else {
        group.element(snippet.path(file))
    }
}
