"""The revisions. They only ever add: a row that an older Flawless wrote stays readable."""
