//! `mainstay completions` and `mainstay man`: made from the command tree, so that they never lag behind it.

use std::path::Path;

use clap::CommandFactory;

use crate::cli::Cli;
use crate::cli::completions::{CompletionsArgs, ManArgs};
use crate::cli::output::Output;
use crate::edit::file::put_for_all;
use crate::exit::{Exit, Stop};

/// Prints the completions.
///
/// # Errors
/// When stdout cannot be written.
pub(crate) fn shell(args: &CompletionsArgs, output: Output) -> Result<Exit, Stop> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "mainstay", &mut script);
    output.raw(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Ok)
}

/// Prints the manual page, or writes all of them.
///
/// # Errors
/// Exit 10 when a page cannot be written.
pub(crate) fn man(args: &ManArgs, output: Output) -> Result<Exit, Stop> {
    let mut root = Cli::command();
    // Names and global options of the commands are complete only then.
    root.build();
    let Some(dir) = &args.out else {
        output.raw(&page(&root)?)?;
        return Ok(Exit::Ok);
    };
    let mut written = 0;
    write_pages(&root, "mainstay", dir, &mut written)?;
    output.line(&format!(
        "wrote {written} manual pages into {}",
        dir.display()
    ))?;
    Ok(Exit::Ok)
}

fn write_pages(
    command: &clap::Command,
    name: &str,
    dir: &Path,
    written: &mut usize,
) -> Result<(), Stop> {
    // A few dozen names, once, in a process that ends with it: the command tree keeps names for ever.
    let title: &'static str = name.to_owned().leak();
    let titled = command.clone().name(title).display_name(title);
    put_for_all(&dir.join(format!("{name}.1")), &page(&titled)?)?;
    *written += 1;
    for inner in command.get_subcommands() {
        if !inner.is_hide_set() && inner.get_name() != "help" {
            let name = format!("{name}-{}", inner.get_name());
            write_pages(inner, &name, dir, written)?;
        }
    }
    Ok(())
}

fn page(command: &clap::Command) -> Result<String, Stop> {
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone())
        .render(&mut page)
        .map_err(|error| Stop::unexpected("cannot render the manual page", error))?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}
