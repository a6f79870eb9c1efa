// Drives imapflow as test_imapflow.py says; every line of output is one JSON value.
import { ImapFlow } from 'imapflow';
import { webcrypto } from 'node:crypto';
import { readFileSync } from 'node:fs';

globalThis.crypto ??= webcrypto; // Node 18, which Debian 12 has, does not name it so

const [scenario, port, ca, user, pass] = process.argv.slice(2);
const say = (value) => process.stdout.write(JSON.stringify(value) + '\n');
const text = (buffer) => buffer.toString('utf8');

async function connect(options = {}) {
    const client = new ImapFlow({
        host: 'localhost',
        port: Number(port),
        secure: true,
        tls: { ca: readFileSync(ca) },
        auth: { user, pass },
        logger: false,
        ...options,
    });
    await client.connect();
    return client;
}

async function whole(stream) {
    const chunks = [];
    for await (const chunk of stream) chunks.push(chunk);
    return Buffer.concat(chunks);
}

const scenarios = {
    async read(options) {
        const client = await connect(options);
        const folders = await client.list({ statusQuery: { messages: true, unseen: true } });
        const folder = (path) => folders.find((each) => each.path === path);
        await client.mailboxOpen('INBOX');
        const all = await client.fetchAll('1:*', {
            uid: true, flags: true, envelope: true, bodyStructure: true, internalDate: true,
            size: true, source: true, headers: ['subject'], threadId: true,
        });
        const download = await client.download('4', '2', { uid: true });
        const part = await whole(download.content);
        const many = await client.downloadMany('4', ['1', '2'], { uid: true });
        say({
            capabilities: [...client.capabilities.keys()],
            enabled: [...client.enabled].sort(),
            folders: Object.fromEntries(folders.map((each) => [
                each.path, [each.status.messages, each.specialUse ?? null, each.subscribed],
            ])),
            nested: folder('Lists/日本語').parentPath,
            namespace: client.namespace,
            status: await client.status('Two Words', { messages: true, uidNext: true, unseen: true }),
            messages: all.map((each) => ({
                uid: each.uid,
                flags: [...each.flags].sort(),
                subject: each.envelope.subject,
                from: each.envelope.from[0],
                date: each.internalDate.toISOString(),
                size: each.size,
                source: text(each.source),
                type: each.bodyStructure.type,
                emailId: each.emailId ?? null,
            })),
            attachment: part.toString('base64'),
            filename: download.meta.filename,
            many: Object.keys(many).sort(),
            found: await client.search({ subject: 'message 1', seen: false }, { uid: true }),
            unicode: await client.search({ body: 'Grüße, number 7' }, { uid: true }),
            either: await client.search({ or: [{ flagged: true }, { answered: true }] }),
            quota: await client.getQuota('INBOX'),
            id: client.serverInfo,
        });
        await client.logout();
    },

    async token() {
        const client = await connect({ auth: { user, accessToken: pass } });
        await client.mailboxOpen('INBOX');
        say({ exists: client.mailbox.exists });
        await client.logout();
    },

    async write(options) {
        const client = await connect(options);
        const created = await client.mailboxCreate(['Lists', 'Neue Ä Kiste']);
        await client.mailboxSubscribe('Lists/Neue Ä Kiste');
        const raw = readFileSync(0);
        const appended = await client.append(
            'Lists/Neue Ä Kiste', raw, ['\\Seen', 'Mine'], new Date('2026-02-03T04:05:06Z'));
        await client.mailboxOpen('INBOX');
        await client.messageFlagsAdd('1:2', ['\\Flagged'], { uid: true });
        await client.messageFlagsRemove({ seen: true }, ['\\Seen']);
        await client.messageFlagsSet('5', ['Only'], { uid: true });
        const copied = await client.messageCopy('3', 'Archive', { uid: true });
        const moved = await client.messageMove('4,5', 'Lists/Neue Ä Kiste', { uid: true });
        await client.messageDelete('6', { uid: true });
        await client.mailboxClose();
        await client.mailboxRename('Two Words', 'Three Little Words');
        await client.mailboxDelete('empty');
        const pairs = (found) => [...found.uidMap.entries()];
        say({ created: created.path, appended: appended.uid, copied: pairs(copied), moved: pairs(moved) });
        await client.logout();
    },

    async listen() {
        const client = await connect();
        const told = [];
        let done;
        const finished = new Promise((resolve) => { done = resolve; });
        client.on('exists', (event) => { told.push(['exists', event.prevCount, event.count]); next(); });
        client.on('flags', (event) => { told.push(['flags', event.seq, [...event.flags].sort()]); next(); });
        client.on('expunge', (event) => { told.push(['expunge', event.seq ?? null]); next(); });
        const next = () => { say({ told: told.at(-1) }); if (told.at(-1)[0] === 'expunge') done(); };
        await client.mailboxOpen('INBOX');
        const idle = client.idle();
        say('idling');
        await finished;
        await client.noop();
        await idle;
        const newest = await client.fetchOne('*', { envelope: true });
        say({ newest: newest.envelope.subject });
        await client.logout();
    },

    async resume() {
        const first = await connect({ qresync: true });
        const seen = await first.mailboxOpen('INBOX');
        await first.logout();
        say('away');
        await whole(process.stdin);
        const client = await connect({ qresync: true });
        const gone = [];
        client.on('expunge', (event) => gone.push([event.uid, event.vanished, event.earlier]));
        await client.mailboxOpen('INBOX');
        const changed = await client.fetchAll('1:*', { uid: true, flags: true }, {
            changedSince: seen.highestModseq, uid: true,
        });
        say({
            enabled: [...client.enabled].sort(),
            changed: changed.map((each) => [each.uid, [...each.flags].sort()]),
            gone,
        });
        await client.logout();
    },
};

const [name, security] = scenario.split(':');
await scenarios[name](security === 'starttls' ? { secure: false, doSTARTTLS: true } : {});
