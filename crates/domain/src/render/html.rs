//! `report.html`: the experiment as one page that needs nothing but itself.
//!
//! No script, no font, no picture and no address of anything outside: the page carries a content
//! security policy that allows its own style sheet and nothing else, so that nothing in a label, a
//! message or a model's words can run, and a report opened in ten years looks as it does today. It
//! is written as XML that is also HTML. The same report gives the same bytes.
//!
//! - [`chart`]: scales, measured words, SVG.
//! - [`pictures`]: one file per picture.
//! - [`view`]: what the template shows; [`page`]: fills it in; [`sections`]: its tables.
//! - [`goodput`]: which requests keep the spec's limits.
//! - [`why`]: where the time went, and whose fault it is.
//! - [`tr110`]: the tables of Technical Report 110.
//! - [`select`]: what is drawn when there is too much, by a rule that the page states.

mod chart;
mod goodput;
mod page;
mod pictures;
mod sections;
mod select;
mod tr110;
mod view;
mod why;

use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, UndefinedBehavior, value::Serde};

use super::{Derived, RenderError};
use crate::report::Report;

const PAGE: &str = include_str!("html/page.html");
const MACROS: &str = include_str!("html/macros.html");
const STYLE: &str = include_str!("html/style.css");

/// The report as one self-contained page.
///
/// *Shape*: below 3 MB for 150 tests of 5 runs; what is left out of the pictures is said beside them.
///
/// # Errors
/// When the template cannot be filled in, which no report that was built makes happen.
pub fn report_html(report: &Report) -> Result<String, RenderError> {
    html(report, &Derived::of(report))
}

/// The page, where what it derives is known already.
pub(super) fn html(report: &Report, derived: &Derived) -> Result<String, RenderError> {
    let page = page::page(report, derived);
    let mut templates = Environment::new();
    // Nothing on the page is written without being escaped, whatever a template is called.
    templates.set_auto_escape_callback(|_| AutoEscape::Html);
    templates.set_undefined_behavior(UndefinedBehavior::Strict);
    let syntax = SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .build()?;
    templates.set_syntax(syntax);
    templates.add_template("macros.html", MACROS)?;
    templates.add_template("page.html", PAGE)?;
    let template = templates.get_template("page.html")?;
    Ok(template.render(Serde(&page))?)
}
