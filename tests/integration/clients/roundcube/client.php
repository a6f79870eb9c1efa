<?php
// Drives Roundcube's IMAP class as test_roundcube.py says; prints one JSON value.
// php client.php LIBRARY PORT CA LOGIN PASSWORD <message

[, $library, $port, $ca, $login, $password] = $argv;

define('RCUBE_INSTALL_PATH', dirname($library, 3) . '/');
define('RCUBE_CONFIG_DIR', '/nonexistent/');
require "$library/bootstrap.php";

$imap = new rcube_imap_generic();
$connected = $imap->connect('localhost', $login, $password, [
    'port' => (int) $port,
    'ssl_mode' => 'ssl',
    'timeout' => 30,
    'auth_type' => 'PLAIN',
    'socket_options' => ['ssl' => ['cafile' => $ca]],
    'ident' => ['name' => 'Roundcube'],
]);
if (!$connected) {
    fwrite(STDERR, $imap->error . "\n");
    exit(1);
}

/** Stop at the first thing that the class did not get done. */
function done($result, string $what)
{
    global $imap;
    if ($result === false || $result === null) {
        fwrite(STDERR, "$what: $imap->error ($imap->resultcode)\n");
        exit(1);
    }
    return $result;
}

$said = ['namespace' => $imap->getNamespace(), 'id' => done($imap->id(['name' => 'Roundcube']), 'ID')];
$said['folders'] = done($imap->listMailboxes('', '*', ['SPECIAL-USE']), 'LIST');
$said['options'] = $imap->data['LIST'];
$said['subscribed'] = done($imap->listSubscribed('', '*'), 'LIST (SUBSCRIBED)');
$said['status'] = done($imap->status('Two Words', ['UNSEEN']), 'STATUS');

done($imap->enable('QRESYNC'), 'ENABLE');
done($imap->select('INBOX'), 'SELECT');
$said['selected'] = [
    $imap->data['EXISTS'], $imap->data['UIDVALIDITY'], $imap->data['HIGHESTMODSEQ'],
];
$modseq = $imap->data['HIGHESTMODSEQ'];
foreach (['ARRIVAL', 'DATE', 'SUBJECT', 'SIZE', 'FROM'] as $key) {
    $said['sorted'][$key] = done($imap->sort('INBOX', $key, '', true), "SORT $key")->get();
}
$said['threads'] = done($imap->thread('INBOX', 'REFERENCES', '', true), 'THREAD')->count();
$said['found'] = done(
    $imap->search('INBOX', 'CHARSET UTF-8 ALL OR SUBJECT "message 3" BODY "Grüße, number 7"', true),
    'SEARCH'
)->get();
$unseen = done($imap->search('INBOX', 'UNSEEN', true, ['COUNT', 'MIN', 'MAX', 'ALL']), 'ESEARCH');
$said['unseen'] = [$unseen->count(), $unseen->min(), $unseen->max(), $unseen->get()];

foreach (done($imap->fetchHeaders('INBOX', '1:*', true, true), 'FETCH') as $header) {
    $said['headers'][$header->uid] = [
        'subject' => $header->subject,
        'from' => $header->from,
        'size' => $header->size,
        'flags' => array_keys(array_filter($header->flags)),
        'structure' => $header->bodystructure,
    ];
}
$said['attachment'] = base64_encode(done($imap->handlePartBody('INBOX', 4, true, '2', 'base64'), 'BODY'));
$said['text'] = done($imap->handlePartBody('INBOX', 1, true, '1', '8bit'), 'BODY');
$said['source'] = base64_encode(done($imap->handlePartBody('INBOX', 2, true), 'BODY[]'));

done($imap->createFolder('Lists/Neue &AMQ- Kiste'), 'CREATE');
done($imap->subscribe('Lists/Neue &AMQ- Kiste'), 'SUBSCRIBE');
$message = stream_get_contents(STDIN);
$said['appended'] = done($imap->append('Lists/Neue &AMQ- Kiste', $message, ['SEEN']), 'APPEND');
done($imap->flag('INBOX', '1:2', 'FLAGGED'), 'STORE +');
done($imap->unflag('INBOX', '2:3', 'SEEN'), 'STORE -');
done($imap->copy('3', 'INBOX', 'Archive'), 'COPY');
done($imap->move('4:5', 'INBOX', 'Lists/Neue &AMQ- Kiste'), 'MOVE');
done($imap->flag('INBOX', '6', 'DELETED'), 'STORE');
done($imap->expunge('INBOX', '6'), 'EXPUNGE');
done($imap->renameFolder('Two Words', 'Three Little Words'), 'RENAME');
done($imap->deleteFolder('empty'), 'DELETE');
done($imap->clearFolder('say "hi"'), 'clear');
done($imap->setMetadata('INBOX', ['/private/comment' => 'ours']), 'SETMETADATA');
$said['metadata'] = done($imap->getMetadata('INBOX', ['/private/comment']), 'GETMETADATA');
done($imap->setACL('Archive', 'bob@example.test', 'lrs'), 'SETACL');
$said['rights'] = [
    done($imap->myRights('Archive'), 'MYRIGHTS'), done($imap->getACL('Archive'), 'GETACL'),
];
$said['quota'] = $imap->getQuota('INBOX');

// what changed since then, as its cache asks
done($imap->select('Archive'), 'SELECT');
done($imap->select('INBOX', [$said['selected'][1], $modseq]), 'SELECT (QRESYNC)');
$said['vanished'] = $imap->data['VANISHED'] ?? null;
$said['resynced'] = array_keys($imap->data['QRESYNC'] ?? []);
$imap->closeConnection();
echo json_encode($said);
