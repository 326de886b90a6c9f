"""The verbs that change an image, of ``btrimg edit`` and the shell: a table, each imported when it is asked for.

A verb is declared as a command is; its function is called with the :class:`Context` first.
"""

from __future__ import annotations

from btrimg.cli.parameters import source_date_epoch, warn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from btrimg.edit.session import Outcome, Session
    from btrimg.edit.verbs import FileEditor

VERBS = {  # words: (module and attribute, one line of help)
    ("put",): ("edit_files:put", "Copy files and directory trees of the host into the image."),
    ("mkdir",): ("edit_files:mkdir", "Make directories."),
    ("rm",): ("edit_files:rm", "Remove files, with -r directories and subvolumes with all in them."),
    ("mv",): ("edit_files:mv", "Give files, directories and subvolumes another name or place."),
    ("ln",): ("edit_files:ln", "Give a file another name, or make a symbolic link."),
    ("write",): ("edit_contents:write", "Write bytes into a file."),
    ("truncate",): ("edit_contents:truncate", "Cut files, or make them longer."),
    ("punch",): ("edit_contents:punch", "Punch a hole into a file."),
    ("reflink",): ("edit_contents:reflink", "Let a file share a range of another one, or of itself."),
    ("subvolume", "create"): ("edit_subvolumes:create", "Make empty subvolumes."),
    ("subvolume", "delete"): ("edit_subvolumes:delete", "Delete subvolumes with all in them."),
    ("snapshot",): ("edit_subvolumes:snapshot", "Make a snapshot of a subvolume."),
    ("set-default",): ("edit_subvolumes:set_default", "Make a subvolume the one that is mounted by default."),
    ("chmod",): ("edit_attributes:chmod", "Change permissions."),
    ("chown",): ("edit_attributes:chown", "Change owners."),
    ("touch",): ("edit_attributes:touch", "Change times, to the nanosecond, that of creation too."),
    ("chattr",): ("edit_attributes:chattr", "Change flags, and properties: compression, read-only."),
    ("xattr", "set"): ("edit_attributes:xattr_set", "Set an extended attribute."),
    ("xattr", "get"): ("edit_attributes:xattr_get", "Show the value of an extended attribute."),
    ("xattr", "remove"): ("edit_attributes:xattr_remove", "Remove an extended attribute."),
    ("label",): ("edit_filesystem:label", "Set the label, or show it."),
    ("fsid",): ("edit_filesystem:fsid", "Write another fsid into every tree block."),
    ("metadata-uuid",): ("edit_filesystem:metadata_uuid", "Be known by another fsid, beside that of the tree blocks."),
    ("seed",): ("edit_filesystem:seed", "Make the filesystem a seed, or none."),
    ("feature",): ("edit_filesystem:feature", "Switch a feature on or off, or show which are on."),
    ("resize",): ("edit_filesystem:resize", "Make a device larger or smaller."),
    ("log", "replay"): ("edit_filesystem:log_replay", "Make what the log tree holds part of the filesystem."),
    ("log", "zero"): ("edit_filesystem:log_zero", "Forget the log tree."),
    ("super", "repair"): ("edit_filesystem:super_repair", "Write all superblocks anew from a sound one."),
    ("scrub",): ("edit_filesystem:scrub", "Write bad copies anew from good ones."),
    ("item", "get"): ("edit_items:get", "Show items, headers and superblocks, or fields of them."),
    ("item", "set"): ("edit_items:set_", "Set fields of items, headers and superblocks."),
    ("item", "insert"): ("edit_items:insert", "Insert an item."),
    ("item", "delete"): ("edit_items:delete", "Delete an item."),
}


class Context:
    """What verbs work on: the image, which is opened when the first of them needs it (context manager)."""

    def __init__(self, open_session: Callable[[], Session], *, as_json: bool = False) -> None:
        self._open, self.as_json = open_session, as_json
        self._session: Session | None = None
        self._files: FileEditor | None = None

    @property
    def session(self) -> Session:
        """Return the session, begun now if no verb has needed it before."""
        if self._session is None:
            self._session = self._open()
        return self._session

    @property
    def is_open(self) -> bool:
        """Return whether a verb needed the session."""
        return self._session is not None

    @property
    def files(self) -> FileEditor:
        """Return what changes the files of the session."""
        if self._files is None:
            from btrimg.edit.verbs import FileEditor

            epoch = source_date_epoch()
            latest = None if epoch is None else epoch * 10**9
            self._files = FileEditor(self.session, latest=latest, warn=warn)
        return self._files

    def commit(self) -> Outcome | None:
        """Commit what the verbs have done, and return what became of it, None when nothing was to be written.

        Raises what the session's commit does.
        """
        self.session.commit()
        outcome, self.session.outcome = self.session.outcome, None
        if self._files is not None:
            self._files.close()
        return outcome

    def tell(self, text: str, **fields: object) -> None:
        """Tell what a verb has found out or chosen: a line of *text*, or *fields* as an object of JSON."""
        if self.as_json:
            from btrimg.render.answers import json_line

            text = json_line(fields)
        print(text)

    def abort(self) -> None:
        """Forget what was not committed."""
        if self._files is not None:
            self._files.close()
        self.session.abort()

    def close(self) -> None:
        """End the session; what was not committed is as if it had never been."""
        if self._files is not None:
            self._files.close()
        if self._session is not None:
            self._session.__exit__(None, None, None)
        self._session = self._files = None
