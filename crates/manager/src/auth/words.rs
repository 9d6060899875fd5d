//! What people type to sign in.

/// The command by which this machine's user signs in to a server, ready to be pasted into a shell.
#[must_use]
pub fn login_command(server: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_.@:/+".contains(letter);
    if !server.is_empty() && !server.starts_with('-') && server.chars().all(plain) {
        return format!("mainstay login {server}");
    }
    format!("mainstay login -- '{}'", server.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::login_command;

    #[test]
    fn f204_a_command_can_be_pasted_whatever_the_server_is_called() {
        assert_eq!(login_command("github"), "mainstay login github");
        assert_eq!(login_command("my server"), "mainstay login -- 'my server'");
        assert_eq!(login_command("-x"), "mainstay login -- '-x'");
        assert_eq!(login_command("$(rm)'"), r"mainstay login -- '$(rm)'\'''");
    }
}
