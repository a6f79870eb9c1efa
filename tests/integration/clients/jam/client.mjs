// What an application does with jmap-jam: list, write a draft, send it, send later and take it back.
import JamClient from "jmap-jam";

const [sessionUrl, bearerToken, to] = process.argv.slice(2);
const jam = new JamClient({ sessionUrl, bearerToken });
const session = await jam.session;
const accountId = await jam.getPrimaryAccount();
const say = (value) => console.log(JSON.stringify(value));
const using = ["urn:ietf:params:jmap:submission"];

const [mailboxes] = await jam.api.Mailbox.get({ accountId });
const role = Object.fromEntries(mailboxes.list.map((each) => [each.role, each.id]));
const [{ ids, emails }] = await jam.requestMany((t) => {
  const ids = t.Email.query({
    accountId,
    filter: { inMailbox: role.inbox },
    sort: [{ property: "receivedAt", isAscending: false }],
    limit: 5,
  });
  const emails = t.Email.get({
    accountId,
    ids: ids.$ref("/ids"),
    properties: ["subject", "from", "preview", "keywords"],
  });
  return { ids, emails };
});
const [identities] = await jam.api.Identity.get({ accountId });
const [identity] = identities.list;
say({ roles: Object.keys(role).sort(), listed: emails.list.length === ids.ids.length, identity });

const written = {
  mailboxIds: { [role.drafts]: true },
  keywords: { $draft: true, $seen: true },
  from: [{ name: "Älice", email: identity.email }],
  to: [{ name: null, email: to }],
  subject: "Grüße from jam",
  bodyValues: { text: { value: "Hello 🍓\n" } },
  textBody: [{ partId: "text", type: "text/plain" }],
};
const [sent] = await jam.requestMany(
  (t) => {
    const draft = t.Email.set({ accountId, create: { draft: written } });
    const submission = t.EmailSubmission.set({
      accountId,
      create: { sent: { identityId: identity.id, emailId: "#draft" } },
      onSuccessUpdateEmail: {
        "#sent": {
          [`mailboxIds/${role.drafts}`]: null,
          [`mailboxIds/${role.sent}`]: true,
          "keywords/$draft": null,
        },
      },
    });
    return { draft, submission };
  },
  { using },
);
// jam keeps the last response of a call, which is that of the Email/set that follows
const [submissions] = await jam.api.EmailSubmission.get({ accountId, ids: null });
say({ moved: Object.keys(sent.submission.updated).length, sent: submissions.list[0] });

const [later] = await jam.requestMany(
  (t) => {
    const draft = t.Email.set({ accountId, create: { draft: written } });
    const submission = t.EmailSubmission.set({
      accountId,
      create: {
        later: {
          identityId: identity.id,
          emailId: "#draft",
          envelope: {
            mailFrom: { email: identity.email, parameters: { HOLDFOR: "600" } },
            rcptTo: [{ email: to, parameters: null }],
          },
        },
      },
    });
    return { draft, submission };
  },
  { using },
);
const { id, undoStatus } = later.submission.created.later;
const [undone] = await jam.api.EmailSubmission.set({
  accountId,
  update: { [id]: { undoStatus: "canceled" } },
});
const [after] = await jam.api.EmailSubmission.get({ accountId, ids: [id] });
say({ before: undoStatus, updated: Object.keys(undone.updated), after: after.list[0].undoStatus });
