"""``calicoctl ipam``: which addresses there are, whose they are, and what is wrong with them.

In:   the store that is chosen, or the file of an export or a backup.
Out:  nothing here: each command is in a module of its own.
Next: ``ipam.picture`` reads everything once; ``ipam.audit``, ``ipam.utilisation`` and ``ipam.account`` answer.

Names, options and the sentences that programs look for are Calico's (behaviour reference 8.1, 8.4).
"""

from __future__ import annotations

import click

from calico.cli.ipam_check import check
from calico.cli.ipam_configure import configure
from calico.cli.ipam_release import release
from calico.cli.ipam_show import show
from calico.cli.ipam_split import split
from calico.cli.ipam_why import why


@click.group(
    epilog="Exit status: 0 done; 1 it could not be done, and standard error says why; 2 the command line is wrong."
)
def ipam() -> None:
    """Look at addresses, pools and blocks, and put them in order.

    \b
    Examples:
      calicoctl ipam show
      calicoctl ipam why 10.65.0.7
      calicoctl ipam check --show-problem-ips
    """


for _command in (show, check, why, release, split, configure):
    ipam.add_command(_command)
