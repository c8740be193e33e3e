"""Who may see and do what: people, sessions, tokens of programs, the audit log, settings of stores."""
