"""The MTA-STS policies of other domains, as the queue remembers them."""

from mailserver.storage import mta_sts
from mailserver.storage.mta_sts import PolicyRow as PolicyRow

find = mta_sts.find
store = mta_sts.store
